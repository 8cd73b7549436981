"""How a daemon makes itself known to its CLI: lock, address and token files, written and removed in the right order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hali.config.files import write_atomically, write_secret
from hali.config.paths import Paths
from hali.model.errors import Failed

TOKEN_BYTES = 32
ATTEMPTS = 10  # a command that only looks whether a daemon runs holds the lock for microseconds; it must not keep one from starting
ATTEMPT_S = 0.002


class AlreadyRunning(Failed):
    """Another daemon holds this home."""

    code = "already_running"


@contextlib.contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Hold the home for this process. The lock dies with the process, so a crash leaves nothing to clean up."""
    with _opened(paths, os.O_RDWR | os.O_CREAT) as fd:
        for _ in range(ATTEMPTS):
            if _lock(fd):
                break
            time.sleep(ATTEMPT_S)
        else:
            raise AlreadyRunning(f"a daemon already runs in {paths.home}", hint="`hali daemon status` shows it")
        yield


def is_locked(paths: Paths) -> bool:
    """True while some daemon holds the home."""
    try:
        with _opened(
            paths, os.O_RDONLY
        ) as fd:  # a look makes nothing, and works on a disk that is mounted for reading only
            return not _lock(fd, fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def _opened(paths: Paths, how: int) -> Iterator[int]:
    fd = os.open(paths.lock, how | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def new_token(path: Path) -> str:
    """A fresh IPC secret in `path` (0600)."""
    import secrets  # loads OpenSSL: 8 ms for every command that only looks whether a daemon runs

    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_secret(path, token.encode())
    return token


@contextlib.contextmanager
def published(paths: Paths, host: str, port: int) -> Iterator[None]:
    """`daemon.addr` exists while the block runs: whoever reads it finds a daemon that answers."""
    write_atomically(paths.address, f"{host}:{port}".encode(), mode=0o600)
    try:
        yield
    finally:
        withdraw(paths)


def withdraw(paths: Paths) -> None:
    """Nobody shall look for a daemon here: at the end, and at the start for what a killed one left behind."""
    paths.address.unlink(missing_ok=True)
    paths.token.unlink(missing_ok=True)
