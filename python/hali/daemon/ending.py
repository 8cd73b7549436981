"""How a daemon ends, kept for whoever asks later why it did."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hali.config import last_exit
from hali.config.paths import Paths
from hali.model.errors import ExitCode, Failed, HaliError, NoSpace, Refused, system_error
from hali.runtime.log import get_logger
from hali.runtime.processes import boot_id

log = get_logger(__name__)
GIVE_UP_S = 40.0  # all stop limits together; a shutdown that takes longer hangs and is cut


@contextmanager
def on_record(paths: Paths) -> Iterator[None]:
    """Under the lock of the home: whatever the block ends with is kept in `last_exit.json`, and raised as a HaliError."""
    last_exit.begin(paths, last_exit.Run(os.getpid(), boot_id()))
    try:
        yield
        last_exit.ended_in_order(paths)
    except HaliError as exc:
        _keep(paths, exc)
        raise
    except Exception as exc:  # a bug, or a disk that failed: one line for whoever started us, the rest is in the log
        error = _told(exc)
        _keep(paths, error)
        raise error from exc
    finally:
        last_exit.end(paths)


def _told(exc: Exception) -> HaliError:
    """A disk that is full or must not be written is for the user to mend, wherever it was met; the rest is for us."""
    if isinstance(exc, OSError) and isinstance(refused := system_error(exc), NoSpace | Refused):
        return refused
    log.error("daemon.bug", exc=exc)
    return Failed(f"internal error: {type(exc).__name__}: {exc}", code="internal", hint="the log has the traceback")


def at_once(paths: Paths) -> None:
    """End the process now, as somebody insisted."""
    last_exit.end(paths)
    os._exit(ExitCode.INTERRUPTED)


def for_sure(paths: Paths) -> None:
    """Every service has a stop limit; should the end still hang, a process that is gone beats one that lingers."""
    timer = threading.Timer(GIVE_UP_S, _cut, args=(paths,))
    timer.daemon = True
    timer.start()


def _cut(paths: Paths) -> None:
    _keep(paths, Failed(f"the end took more than {GIVE_UP_S:.0f} s and was cut", code="end_hung"))
    last_exit.end(paths)
    os._exit(ExitCode.FAILED)


def _keep(paths: Paths, error: HaliError) -> None:
    try:
        last_exit.ended_with(paths, error, int(error.exit_code))
    except OSError as exc:  # a full disk may be the very reason
        log.warning("daemon.reason_not_kept", error=str(exc))
