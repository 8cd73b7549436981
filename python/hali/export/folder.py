"""A folder of another program: files appear in it whole or not at all, and never through a symbolic link below it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from hali.model.errors import Failed, HaliError, NoSpace, Refused, UsageError
from hali.model.filenames import unsafe
from hali.model.units import format_bytes
from hali.store.cloning import clone

How = Literal["reflink", "link", "copy", "kept"]
CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES)
_HERE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """`root` itself may be a link: the user named it. Paths below it are given as parts: `("blobs", "sha256-…")`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def stat(self, *parts: str) -> os.stat_result | None:
        """Of a file below, links not followed; None when it is not there."""
        with self._in_words(parts):
            try:
                with self._parent(parts, make=False) as parent:
                    return os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def read(self, *parts: str) -> bytes | None:
        """A small regular file below; None when it is not there."""
        found = self.stat(*parts)
        if found is None or not stat.S_ISREG(found.st_mode):
            return None
        with self._in_words(parts), self._parent(parts, make=False) as parent:
            fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            with os.fdopen(fd, "rb") as file:
                return file.read()

    def write(self, data: bytes, *parts: str) -> bool:
        """Make the file hold `data`; False when it did already."""
        if self.read(*parts) == data:
            return False
        with self._in_words(parts):
            self._put(parts, lambda parent, name: _write_new(parent, name, data))
        return True

    def bring(self, source: Path, *parts: str) -> How:
        """Make the file hold the bytes of `source`: by reflink, else by hard link, else by copy."""
        how: list[How] = []
        with self._in_words(parts):
            self._put(parts, lambda parent, name: how.append(_bring_new(source, parent, name)))
        return how[0]

    def _put(self, parts: tuple[str, ...], make: Callable[[int, str], object]) -> None:
        """`make(parent, name)` makes a file of another name, which then takes the place of the wanted one."""
        with self._parent(parts, make=True) as parent:
            temporary = f".hali-{os.urandom(6).hex()}.tmp"
            try:
                make(parent, temporary)
                os.replace(temporary, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
                os.fsync(parent)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)

    @contextlib.contextmanager
    def _parent(self, parts: tuple[str, ...], *, make: bool) -> Iterator[int]:
        """The folder of a file, opened one step at a time, so that nobody can put a link in the way meanwhile."""
        for part in parts:
            check_part(part)
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        at = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for number, part in enumerate(parts[:-1], start=1):
                at = self._step(at, parts[:number], part, make=make)
            yield at
        finally:
            os.close(at)

    def _step(self, at: int, path: tuple[str, ...], part: str, *, make: bool) -> int:
        """The folder `part` of `at`, which is closed."""
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=at)
        try:
            below = os.open(part, _HERE, dir_fd=at)
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Refused(
                    f"{self.root.joinpath(*path)} is a symbolic link or no folder; hali writes through none",
                    hint="name the real folder with --dir, or move it into place",
                ) from None
            raise
        os.close(at)
        return below

    @contextlib.contextmanager
    def _in_words(self, parts: tuple[str, ...]) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise _error(exc, self.root.joinpath(*parts)) from None


def check_part(part: str) -> str:
    """`part`, unless it could lead out of its folder or hide in it; UsageError."""
    if reason := unsafe(part) or ("it would be hidden" if part.startswith(".") else None):
        raise UsageError(f"{part[:80]!r} cannot be the name of a file or folder: {reason}")
    return part


def _write_new(parent: int, name: str, data: bytes) -> None:
    with os.fdopen(os.open(name, _NEW, 0o644, dir_fd=parent), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _bring_new(source: Path, parent: int, name: str) -> How:
    with source.open("rb") as old, os.fdopen(os.open(name, _NEW, 0o644, dir_fd=parent), "wb") as new:
        if clone(old.fileno(), new.fileno()):
            os.fsync(new.fileno())
            return "reflink"
        os.unlink(name, dir_fd=parent)
    try:
        os.link(source, name, dst_dir_fd=parent, follow_symlinks=False)
        return "link"
    except OSError as exc:
        if exc.errno not in CANNOT_LINK:
            raise
    _copy_new(source, parent, name)
    return "copy"


def _copy_new(source: Path, parent: int, name: str) -> None:
    with source.open("rb") as old, os.fdopen(os.open(name, _NEW, 0o644, dir_fd=parent), "wb") as new:
        size, room = os.fstat(old.fileno()).st_size, os.fstatvfs(new.fileno())
        free = room.f_bavail * room.f_frsize
        if size > free:
            raise NoSpace(
                f"{source.name} must be copied to another file system: it needs {format_bytes(size)}, {format_bytes(free)} are free",
                hint="choose a folder on the disk of the models, where a link takes no space",
            )
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())


def _error(exc: OSError, path: Path) -> HaliError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"disk full while writing {path}", hint="free some space and export again")
    if exc.errno == errno.EROFS:
        return Refused(f"{path} is on a read-only file system", hint="give a folder that can be written with --dir")
    if isinstance(exc, PermissionError):
        return Refused(f"no permission to write {path}", hint="give a folder of yours with --dir")
    return Failed(f"{path}: {exc.strerror or exc}")
