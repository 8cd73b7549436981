"""Files that must survive a crash: written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: start writing dirty pages out, do not wait for them


def start_writing_out(fd: int, offset: int, size: int) -> None:
    """Ask the kernel to begin writing these bytes to disk, so that a later fsync finds little to do. A hint: errors are not told.

    Linux only (sync_file_range); elsewhere the fsync does all of it.
    """
    if (function := _sync_file_range()) is not None:
        function(fd, offset, size, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    import ctypes  # 4 ms that commands which only read files need not spend

    function = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


def fsync_directory(directory: Path) -> None:
    """Make renames and creations in `directory` durable (POSIX asks for it separately from the file)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data`: temporary file, fsync, rename, fsync of the folder. What root writes is the folder's owner's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(fd, "wb") as out:
            _give_to_owner_of(path.parent, out.fileno())
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_directory(path.parent)


def _give_to_owner_of(directory: Path, fd: int) -> None:
    """A service of another account must be able to read what an administrator sets in its data directory."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    owner = directory.stat()
    if owner.st_uid != 0:
        os.fchown(fd, owner.st_uid, owner.st_gid)


def write_secret(path: Path, data: bytes) -> None:
    """`write_atomically` readable by the owner only; never wider, not even for a moment."""
    write_atomically(path, data, mode=0o600)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else in this block for `path`, which is read and then replaced; others wait, and a crash leaves nothing to clean up.

    The lock is a file beside it: `path` itself is another file after each write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _give_to_owner_of(path.parent, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
