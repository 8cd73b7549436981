"""`halid`: one daemon, from its arguments to its exit code. Start-up and shutdown follow the order of architecture.md."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports below ends it without a traceback of them

import anyio
import msgspec

from hali._version import __version__
from hali.api.base import ApiKey
from hali.api.binding import Bind
from hali.config import identity
from hali.config.credentials import API_KEY, credential
from hali.config.files import write_secret
from hali.config.load import Loaded, find_key, load, unknown_variables
from hali.config.paths import Paths, from_environment
from hali.config.schema import KEYS
from hali.daemon import ending
from hali.daemon.address import exclusive, new_token, published, withdraw
from hali.daemon.heartbeat import describe, keep_telling
from hali.daemon.ipc import IpcServer
from hali.daemon.methods import Methods
from hali.daemon.node import Node
from hali.daemon.terminal import wait_for_terminal_end
from hali.model.errors import ConfigError, ExitCode, HaliError, UsageError, system_error
from hali.runtime import log as logs
from hali.runtime import loopback
from hali.runtime.groups import first_error
from hali.runtime.notify import Notifier
from hali.runtime.processes import allow_many_files
from hali.runtime.stalls import watched_loop
from hali.runtime.supervisor import EssentialServiceFailed
from hali.store.database import Database

log = logs.get_logger(__name__)
USAGE = "usage: halid [--version] [--model NAME] [--KEY VALUE ...]   (every configuration key is a flag, see `hali config show`)"
SWITCHES = ("--ready-report", "--service")
KEY_BYTES = 32
NEW_KEY = "remove it: another is made"


class Arguments(msgspec.Struct, frozen=True):
    """What the command line says."""

    flags: dict[str, str]
    model: str | None = None
    ready_report: bool = False  # started by the CLI: errors as JSON, no log lines on standard error
    service: bool = False  # run by a service manager, which brings it back: the log file has its lines, standard error only the last


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """`--key value` and `--key=value` for every configuration key; UsageError otherwise."""
    by_flag = {key.flag: key for key in KEYS.values()}
    flags: dict[str, str] = {}
    model, switches, rest = None, set[str](), list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in SWITCHES:
            switches.add(name)
            continue
        if name != "--model" and name not in by_flag:
            raise UsageError(f"unknown option {name!r}", hint=_near(name))
        if not equals:
            value = _value_after(name, rest, switch=name in by_flag and isinstance(by_flag[name].default, bool))
        if name == "--model":
            model = value
        else:
            flags[by_flag[name].name] = value
    return Arguments(flags, model, "--ready-report" in switches, "--service" in switches)


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
    to_terminal = not any(switch in argv for switch in SWITCHES)
    if sys.stderr is not None:  # closed by whoever started us
        faulthandler.enable()  # of a crash in native code nothing else tells where
    try:
        arguments = parse_arguments(argv)
        paths = from_environment()
        paths.create()
        with exclusive(paths), ending.on_record(paths):
            withdraw(paths)
            # Before the settings are known, so that the log keeps why they are wrong.
            logs.configure(debug=False, directory=paths.logs, stderr=False)
            allow_many_files()
            loaded = load(paths.config, flags=arguments.flags)
            logs.configure(debug=loaded.settings.debug, directory=paths.logs, stderr=to_terminal)
            for variable, told in unknown_variables(os.environ).items():
                log.warning("config.unknown_variable", variable=variable, error=told)
            loopback.need()
            try:
                options = {"loop_factory": watched_loop}
                return anyio.run(_daemon, paths, loaded, arguments, backend="asyncio", backend_options=options)
            finally:
                withdraw(paths)
    except (HaliError, OSError) as error:
        exc = system_error(error) if isinstance(error, OSError) else error
        log.error("daemon.failed", error=exc.message, code=exc.code)
        said = json.dumps(exc.to_wire()) if report else f"halid: {exc.message}{f' — {exc.hint}' if exc.hint else ''}"
        with contextlib.suppress(
            OSError
        ):  # where the disk is full, the report does not fit either: the exit code tells
            print(said, file=sys.stderr, flush=True)
        return int(exc.exit_code)


async def _daemon(paths: Paths, loaded: Loaded, arguments: Arguments) -> int:
    notifier = Notifier()
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
        await _serve(node, arguments, notifier)
    except ExceptionGroup as exc:
        raise _only_cause(exc) from exc
    finally:
        node.close()
        log.info("daemon.stopped")
    return ExitCode.OK


async def _serve(node: Node, arguments: Arguments, notifier: Notifier) -> None:
    stopping = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, stopping, node.paths)
        group.start_soon(_stop_with_terminal, stopping)
        methods = Methods(node, stopping.set, service=arguments.service).table()
        node.dashboard.open(methods)
        async with node.running():
            token = new_token(node.paths.token)
            ipc = IpcServer(methods, token)
            await group.start(ipc.run)
            assert ipc.address is not None
            if arguments.model is not None:
                await _unless_stopped(stopping, partial(node.preload, arguments.model))
            with published(node.paths, *ipc.address):
                log.info("daemon.ready", ipc_port=ipc.address[1])
                gc.freeze()  # what is there now stays: looking it through again and again was 3 % of a pull's time
                node.told.started()
                await notifier.ready(describe(node.supervisor.statuses()))
                group.start_soon(keep_telling, notifier, node.supervisor.statuses)
                await stopping.wait()
                log.info("daemon.stopping")
                node.told.stopping()
            await notifier.stopping()
            ending.for_sure(node.paths)
        group.cancel_scope.cancel()


async def _unless_stopped(stopping: anyio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`, which may take minutes, and leave it when the end is asked for."""
    async with anyio.create_task_group() as group:

        async def leave() -> None:
            await stopping.wait()
            group.cancel_scope.cancel()

        group.start_soon(leave)
        await work()
        group.cancel_scope.cancel()


async def _stop_on_signal(stopping: anyio.Event, paths: Paths) -> None:
    """The first signal stops in order, the second at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if stopping.is_set():
                ending.at_once(paths)
            log.info("daemon.signal", signal=signal.Signals(number).name)
            stopping.set()


async def _stop_with_terminal(stopping: anyio.Event) -> None:
    """In user mode the daemon belongs to the terminal session it was started from."""
    await wait_for_terminal_end()
    log.info("daemon.terminal_closed")
    stopping.set()


def _api_keys(paths: Paths, loaded: Loaded) -> list[ApiKey]:
    """The key of the HTTP API, made at the first start that needs one: on loopback no client has to know any."""
    if (given := credential(API_KEY)) is not None:
        return [ApiKey("owner", given)]
    settings = loaded.settings
    needed = settings.api.require_key or not Bind(settings.daemon_listen_addr).loopback
    if needed and not paths.api_key.exists():
        write_secret(paths.api_key, f"hali-{secrets.token_urlsafe(KEY_BYTES)}\n".encode())
    if not paths.api_key.exists():
        return []
    return [ApiKey("owner", _owner_key(paths.api_key))]


def _owner_key(path: Path) -> str:
    """ConfigError for a file that holds none: an empty key would be everybody's."""
    try:
        key = path.read_text(encoding="ascii").strip()
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}", hint=NEW_KEY) from None
    except UnicodeDecodeError:
        key = ""
    if not key or not key.isprintable():
        raise ConfigError(f"{path} holds no key", hint=NEW_KEY)
    return key


def _only_cause(exc: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the daemon. What somebody has to change is told in its own words, without the service it stopped."""
    found = first_error(exc)
    permanent = isinstance(found, EssentialServiceFailed) and found.exit_code is ExitCode.CONFIG
    return found.__cause__ if permanent and found.__cause__ is not None else found


if __name__ == "__main__":
    main()
