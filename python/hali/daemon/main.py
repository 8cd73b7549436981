"""`halid`: one daemon, from its arguments to its exit code. Start-up and shutdown follow the order of architecture.md."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence

import anyio
import msgspec

from hali._version import __version__
from hali.api.base import ApiKey
from hali.api.binding import Bind
from hali.config import identity
from hali.config.files import write_secret
from hali.config.load import Loaded, find_key, load
from hali.config.paths import Paths, from_environment
from hali.config.schema import KEYS
from hali.daemon.address import exclusive, new_token, published, withdraw
from hali.daemon.ipc import IpcServer
from hali.daemon.methods import Methods
from hali.daemon.node import Node
from hali.daemon.terminal import wait_for_terminal_end
from hali.model.errors import ExitCode, HaliError, UsageError
from hali.runtime import log as logs
from hali.runtime.processes import allow_many_files
from hali.runtime.supervisor import EssentialServiceFailed
from hali.store.database import Database

log = logs.get_logger(__name__)
USAGE = "usage: halid [--version] [--model NAME] [--KEY VALUE ...]   (every configuration key is a flag, see `hali config show`)"
KEY_BYTES = 32
GIVE_UP_S = 40.0  # all stop limits together; a shutdown that takes longer hangs and is cut


class Arguments(msgspec.Struct, frozen=True):
    """What the command line says."""

    flags: dict[str, str]
    model: str | None = None
    ready_report: bool = False  # started by the CLI: errors as JSON, no log lines on standard error


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """`--key value` and `--key=value` for every configuration key; UsageError otherwise."""
    by_flag = {key.flag: key for key in KEYS.values()}
    flags: dict[str, str] = {}
    model, report, rest = None, False, list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name == "--ready-report":
            report = True
            continue
        if name != "--model" and name not in by_flag:
            raise UsageError(f"unknown option {name!r}", hint=_near(name))
        if not equals:
            value = _value_after(name, rest, switch=name in by_flag and isinstance(by_flag[name].default, bool))
        if name == "--model":
            model = value
        else:
            flags[by_flag[name].name] = value
    return Arguments(flags, model, report)


def _value_after(name: str, rest: list[str], *, switch: bool) -> str:
    if switch and (not rest or rest[0].startswith("--")):
        return "true"
    if not rest:
        raise UsageError(f"option {name} needs a value")
    return rest.pop(0)


def _near(name: str) -> str | None:
    try:
        find_key(name.removeprefix("--").replace("-", "_"))
    except UsageError as exc:
        return exc.hint
    return None


def main() -> None:
    """Entry point of `halid`."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"halid {__version__}")
        return
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(USAGE)
        return
    sys.exit(_main(sys.argv[1:]))


def _main(argv: Sequence[str]) -> int:
    report = "--ready-report" in argv
    allow_many_files()
    try:
        arguments = parse_arguments(argv)
        paths = from_environment()
        paths.create()
        with exclusive(paths):
            withdraw(paths)
            loaded = load(paths.config, flags=arguments.flags)
            logs.configure(debug=loaded.settings.debug, directory=paths.logs, stderr=not report)
            try:
                return anyio.run(_daemon, paths, loaded, arguments, backend="asyncio")
            finally:
                withdraw(paths)
    except HaliError as exc:
        log.error("daemon.failed", error=exc.message, code=exc.code)
        if report:
            print(json.dumps(exc.to_wire()), file=sys.stderr, flush=True)
        else:
            print(f"halid: {exc.message}{f' — {exc.hint}' if exc.hint else ''}", file=sys.stderr, flush=True)
        return int(exc.exit_code)


async def _daemon(paths: Paths, loaded: Loaded, arguments: Arguments) -> int:
    node_identity = identity.load_or_create(paths.identity)
    node = Node(paths, loaded, node_identity, Database(paths.database), _api_keys(paths, loaded))
    try:
        log.info(
            "daemon.starting",
            version=__version__,
            pid=os.getpid(),
            home=str(paths.home),
            node=node_identity.node_id[:16],
        )
        await _serve(node, arguments)
    except ExceptionGroup as exc:
        raise _only_cause(exc) from exc
    finally:
        node.close()
        log.info("daemon.stopped")
    return ExitCode.OK


async def _serve(node: Node, arguments: Arguments) -> None:
    stopping = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, stopping)
        group.start_soon(_stop_with_terminal, stopping)
        methods = Methods(node, stopping.set).table()
        node.dashboard.open(methods)
        async with node.running():
            token = new_token(node.paths.token)
            ipc = IpcServer(methods, token)
            await group.start(ipc.run)
            assert ipc.address is not None
            if arguments.model is not None:
                await node.preload(arguments.model)
            with published(node.paths, *ipc.address):
                log.info("daemon.ready", ipc_port=ipc.address[1])
                node.told.started()
                await stopping.wait()
                log.info("daemon.stopping")
                node.told.stopping()
            _end_for_sure()
        group.cancel_scope.cancel()


async def _stop_on_signal(stopping: anyio.Event) -> None:
    """The first signal stops in order, the second at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if stopping.is_set():
                os._exit(ExitCode.INTERRUPTED)
            log.info("daemon.signal", signal=signal.Signals(number).name)
            stopping.set()


async def _stop_with_terminal(stopping: anyio.Event) -> None:
    """In user mode the daemon belongs to the terminal session it was started from."""
    await wait_for_terminal_end()
    log.info("daemon.terminal_closed")
    stopping.set()


def _end_for_sure() -> None:
    """Every service has a stop limit; should the end still hang, a process that is gone beats one that lingers."""
    timer = threading.Timer(GIVE_UP_S, os._exit, args=(ExitCode.FAILED,))
    timer.daemon = True
    timer.start()


def _api_keys(paths: Paths, loaded: Loaded) -> list[ApiKey]:
    """The key of the HTTP API, made at the first start that needs one: on loopback no client has to know any."""
    settings = loaded.settings
    needed = settings.api.require_key or not Bind(settings.daemon_listen_addr).loopback
    if needed and not paths.api_key.exists():
        write_secret(paths.api_key, f"hali-{secrets.token_urlsafe(KEY_BYTES)}\n".encode())
    if not paths.api_key.exists():
        return []
    return [ApiKey("owner", paths.api_key.read_text().strip())]


def _only_cause(exc: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the daemon: the first of ours in the group, else the group. A service's own says more than its end."""
    ours, _ = exc.split(HaliError)
    while isinstance(ours, BaseExceptionGroup):
        ours = ours.exceptions[0]  # type: ignore[assignment]
    if isinstance(ours, EssentialServiceFailed) and isinstance(ours.__cause__, HaliError):
        return ours.__cause__
    return ours if ours is not None else exc


if __name__ == "__main__":
    main()
