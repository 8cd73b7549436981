"""`last_exit.json`: why the last daemon of this home ended, when it did not end in order; kept until one does."""

from __future__ import annotations

import time

import msgspec

from hali.config.files import write_atomically
from hali.config.paths import Paths
from hali.model.errors import HaliError

KEPT = 10  # crash times: enough to tell a loop (five in ten minutes) from bad luck
DIED = "died"  # the code of an end that left no word


class LastExit(msgspec.Struct, frozen=True):
    """One abnormal end. Times are Unix time in seconds; `exit_code` None: nobody saw it end."""

    at: float
    code: str
    exit_code: int | None
    message: str
    hint: str | None = None
    crashes: list[float] = []  # of this end and those before it, oldest first


class Run(msgspec.Struct, frozen=True):
    """Who holds the home: written into the lock file at the start, taken out at the end, so that it stays of one that died."""

    pid: int
    boot: str  # `runtime.processes.boot_id`


def read(paths: Paths) -> LastExit | None:
    """The last abnormal end on record; None when there was none, or the file is not readable as one."""
    try:
        return msgspec.json.decode(paths.last_exit.read_bytes(), type=LastExit)
    except (OSError, msgspec.DecodeError):
        # It is only a help for people: a broken one must not keep a daemon from starting.
        return None


def latest(paths: Paths, boot: str) -> LastExit | None:
    """While no daemon runs: as `read`, or the end of one that died since, which the next start will put on record."""
    return _unrecorded(paths, boot) or read(paths)


def running(paths: Paths) -> Run | None:
    """Who wrote itself into the lock file and has not ended in order; None where nobody is named. It may have died since."""
    try:
        return msgspec.json.decode(paths.lock.read_bytes(), type=Run)
    except (OSError, msgspec.DecodeError):  # empty: it ended by itself
        return None


def begin(paths: Paths, run: Run) -> None:
    """Under the lock: take the home over, and put it on record when the run before died without a word."""
    if (died := _unrecorded(paths, run.boot)) is not None:
        _keep(paths, died)
    paths.lock.write_bytes(msgspec.json.encode(run))


def ended_with(paths: Paths, error: HaliError, exit_code: int) -> None:
    """Under the lock: this run is about to end with `error`."""
    now = time.time()
    _keep(paths, LastExit(now, error.code, exit_code, error.message, error.hint, _crashes(paths, now)))


def ended_in_order(paths: Paths) -> None:
    """Under the lock: nothing of what was before matters any more."""
    paths.last_exit.unlink(missing_ok=True)


def end(paths: Paths) -> None:
    """Under the lock: whatever this run had to say is said."""
    paths.lock.write_bytes(b"")


def _unrecorded(paths: Paths, boot: str) -> LastExit | None:
    """The death of the run that the lock file still names. A reboot is no crash."""
    run = running(paths)
    if run is None or run.boot != boot:
        return None
    at = _last_sign_of_life(paths)
    message = f"the daemon (PID {run.pid}) died without a word: killed, out of memory, or crashed"
    hint = f"see the end of {paths.logs / 'start.err'} and of {paths.logs / 'hali.log'}"
    return LastExit(at, DIED, None, message, hint, _crashes(paths, at))


def _crashes(paths: Paths, at: float) -> list[float]:
    before = read(paths)
    return [*(before.crashes if before is not None else []), at][-KEPT:]


def _keep(paths: Paths, last: LastExit) -> None:
    write_atomically(paths.last_exit, msgspec.json.encode(last), mode=0o600)


def _last_sign_of_life(paths: Paths) -> float:
    try:
        return (paths.logs / "hali.log").stat().st_mtime
    except OSError:
        return time.time()
