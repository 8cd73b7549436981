"""Finding the daemon of this home, and starting one when a command needs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hali.cli.output import Output
from hali.config import last_exit
from hali.config.paths import Paths, from_environment
from hali.daemon.address import AlreadyRunning, is_locked
from hali.daemon.client import DaemonClient
from hali.model.errors import ExitCode, Failed, HaliError, NoSpace, NotRunning, Refused, from_wire
from hali.runtime import loopback
from hali.runtime.processes import boot_id, is_alive

START_S = 30.0  # a cold disk and a large store included; an ordinary start takes well under a second
STOP_S = 30.0  # above the daemon's own drain of 10 s and the stop limits of its services
POLL_S = 0.02


def connect(paths: Paths | None = None) -> DaemonClient:
    """The running daemon; NotRunning."""
    return DaemonClient(paths or from_environment())


def ensure(paths: Paths | None = None, *, flags: Sequence[str] = (), detach: bool = False) -> tuple[DaemonClient, bool]:
    """The running daemon, started if need be; the second value tells whether it was."""
    paths = paths or from_environment()
    try:
        return _answering(paths), False
    except NotRunning:
        return start(paths, flags=flags, detach=detach), True


@contextmanager
def needed(out: Output) -> Iterator[DaemonClient]:
    """The running daemon for a command that needs one; tells a person, not a log, when it had to be started."""
    client, started = ensure()
    if started and out.interactive:
        out.note(f"Started the daemon.{until_when(out)}")
    with client:
        yield client


def until_when(out: Output) -> str:
    """What a person at a terminal should know of a daemon in user mode."""
    return " It ends with this terminal, unless started with --detach." if out.interactive else ""


def _answering(paths: Paths) -> DaemonClient:
    client = DaemonClient(paths)
    try:
        client.call("ping", timeout=5.0)
    except HaliError as exc:
        client.close()
        # Another program took the port of a daemon that died; or the token is of an older life.
        raise NotRunning(f"stale {paths.address}") from exc
    return client


def start(paths: Paths, *, flags: Sequence[str] = (), detach: bool = False) -> DaemonClient:
    """Start a daemon and wait until it answers. Its own error is raised when it ends instead.

    When another command starts one at the same moment, that one is taken; one that is just ending is waited for.
    """
    loopback.need()
    paths.create()
    deadline = time.monotonic() + START_S
    while True:
        try:
            return _launch(paths, flags, detach)
        except AlreadyRunning:
            if (client := _other(paths, deadline)) is not None:
                return client


def _launch(paths: Paths, flags: Sequence[str], detach: bool) -> DaemonClient:
    report = paths.logs / "start.err"
    with report.open("ab" if is_locked(paths) else "wb") as errors:  # a daemon that lives may still write to it
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hali.daemon.main", "--ready-report", *flags],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=os.environ | {"HALI_HOME": str(paths.home)},
            # Its own group, so that Ctrl-C in the terminal does not reach it; its own session when it shall outlive the terminal.
            start_new_session=detach,
            process_group=None if detach else 0,
        )
    try:
        return _when_ready(paths, process, report)
    except BaseException:  # also Ctrl-C: a daemon nobody has heard from is not left behind
        _end(process)
        raise


def _other(paths: Paths, deadline: float) -> DaemonClient | None:
    """The daemon that holds the home, as soon as it answers; None when it has ended instead."""
    while is_locked(paths):
        try:
            return _answering(paths)
        except NotRunning:
            time.sleep(POLL_S)
        if time.monotonic() > deadline:
            raise Failed(
                f"a daemon{_named(paths)} holds {paths.home} but does not answer", hint="`hali daemon stop` ends it"
            )
    return None


def _when_ready(paths: Paths, process: subprocess.Popen[bytes], report: Path) -> DaemonClient:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _start_error(report, process.returncode)
        try:
            return _answering(paths)
        except NotRunning:
            time.sleep(POLL_S)
    raise Failed(f"the daemon did not answer in {START_S:.0f} s", hint=f"see {paths.logs / 'hali.log'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _start_error(report: Path, code: int) -> HaliError:
    import json

    lines = report.read_text(errors="replace").strip().splitlines()
    for line in reversed(lines):
        try:
            wire = json.loads(line)
        except ValueError:
            continue
        if isinstance(wire, dict) and "code" in wire:
            return from_wire(wire)
    if not lines and code == ExitCode.NO_SPACE:  # then there was none for its report either
        return NoSpace(f"the disk of {report.parent} is full", hint="free some space and start the daemon again")
    last = lines[-1] if lines else f"exit code {code}"
    return Failed(f"the daemon ended at once: {last}", hint=f"see {report.parent / 'hali.log'}")


def stop(paths: Paths | None = None) -> bool:
    """Ask the daemon to stop and wait until it has; False when none ran, Refused where a service manager would bring it back.

    One that cannot be asked gets SIGTERM.
    """
    paths = paths or from_environment()
    pid = None
    try:
        with connect(paths) as client:
            found = client.call("ping", timeout=10.0)
            pid = found["pid"]
            if found.get("service"):
                raise _of_service()
            client.call("stop", timeout=10.0)
    except NotRunning:
        if not is_locked(paths):
            return False
        # One that ends in order has withdrawn both files; a second signal would end it at once.
        if pid is None and (paths.address.exists() or paths.token.exists()):
            pid = _terminate(paths)
    deadline = time.monotonic() + STOP_S
    while is_locked(paths) or (pid is not None and is_alive(pid)):
        if time.monotonic() > deadline:
            hint = "see `hali logs`" if pid is None else f"`kill -9 {pid}` ends it at once"
            raise Failed(f"the daemon{_named(paths)} still runs after {STOP_S:.0f} s", hint=hint)
        time.sleep(POLL_S)
    return True


def _named(paths: Paths) -> str:
    run = last_exit.running(paths)
    return "" if run is None else f" (PID {run.pid})"


def _of_service() -> Refused:
    return Refused("the daemon runs as a service", hint="`hali service stop` and `hali service restart` are for that")


def _terminate(paths: Paths) -> int | None:
    """SIGTERM for the process that the lock file names, if it is known to hold the lock: then its PID. Linux only, see `proc`."""
    from hali.service.doctor.proc import holder_of_lock

    run = last_exit.running(paths)
    if sys.platform != "linux" or run is None or run.boot != boot_id():
        return None
    try:
        process = os.pidfd_open(run.pid)  # this very process, whoever has its number later
    except OSError:
        return None
    try:
        if holder_of_lock(paths.lock) != run.pid:
            return None
        if b"--service" in Path(f"/proc/{run.pid}/cmdline").read_bytes().split(b"\0"):
            raise _of_service()
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):  # it ends anyway
        return None
    finally:
        os.close(process)
    return run.pid
