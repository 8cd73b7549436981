"""How a daemon makes itself known to its CLI: lock, address and token files, written and removed in the right order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from hali.config.files import write_atomically, write_secret
from hali.config.paths import Paths
from hali.model.errors import Failed

TOKEN_BYTES = 32


class AlreadyRunning(Failed):
    """Another daemon holds this home."""

    code = "already_running"


@contextlib.contextmanager
def exclusive(paths: Paths) -> Iterator[None]:
    """Hold the home for this process. The lock dies with the process, so a crash leaves nothing to clean up."""
    fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"a daemon already runs in {paths.home}", hint="`hali daemon status` shows it"
            ) from None
        yield
    finally:
        os.close(fd)


def is_locked(paths: Paths) -> bool:
    """True while some daemon holds the home."""
    try:
        with exclusive(paths):
            return False
    except AlreadyRunning:
        return True
    except FileNotFoundError:
        return False


def new_token(path: Path) -> str:
    """A fresh IPC secret in `path` (0600)."""
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
        paths.address.unlink(missing_ok=True)
        paths.token.unlink(missing_ok=True)
