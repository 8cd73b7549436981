"""Bringing a local file into the store's file system: by reflink or hard link when it can, else by copy."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from hali.model.errors import Failed, NotFound, ProtocolError, UsageError
from hali.model.filenames import safe_name
from hali.model.splits import each_part_beside, is_possible, part_of
from hali.share.incoming import check_name, check_room
from hali.store.cloning import clone

NOTE = "imported"  # beside the target; a suffix to its name might be more than a file system allows
CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES)


def sources_of(path: Path, beside: Path | None) -> Iterator[Path]:
    """The files of the model that `path` is (a part of): all parts of a split, and the projector `beside`. Looks at none of them.

    UsageError when the name tells of a part that cannot be.
    """
    part = part_of(path.name)
    if part is not None and not is_possible(part):
        raise UsageError(f"{path.name} cannot be part {part[0]} of {part[1]}", hint="rename the file")
    return chain(each_part_beside(path), [beside] if beside is not None else [])


def examine(source: Path, model: Path) -> os.stat_result:
    """A file of `model` that can be added; NotFound, Failed, UsageError, Refused. Blocks for a look at the folder."""
    try:
        info = source.stat()
    except FileNotFoundError:
        raise _missing(source, model) from None
    except OSError as exc:
        raise Failed(f"cannot read {source}: {exc.strerror}") from None
    if not stat.S_ISREG(info.st_mode):
        raise UsageError(f"{source} is not a file", hint="give the path of one model file")
    if info.st_size == 0:
        raise UsageError(f"{source} is empty")
    check_name(source.name)
    try:
        safe_name(source.name)
    except ProtocolError as exc:  # told before an hour of hashing, not after
        raise UsageError(exc.message, hint="rename the file: this name cannot travel in a torrent") from None
    return info


def _missing(source: Path, model: Path) -> NotFound:
    part = part_of(source.name)
    if source == model or part is None:
        return NotFound(f"no file {source}")
    return NotFound(
        f"{model.name} is one of {part[1]} parts, and {source.name} is not beside it in {source.parent}",
        hint="all parts of a split model have to be in one folder",
    )


def bring_in(source: Path, target: Path, *, link: bool, tag: str, note: Path | None = None) -> str:
    """Make `target` hold the bytes of `source`: "reflink", "link", "copy", or "kept" when an earlier try had finished.

    `tag` names this version of the source; a note of it (beside the target) tells a finished copy from a broken one.
    """
    note = note or target.with_name(NOTE)
    note.parent.mkdir(exist_ok=True)
    if target.exists() and note.exists() and note.read_text() == tag:
        return "kept"
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    how = _bring(source.resolve(), target, link=link)
    note.unlink(missing_ok=True)  # it may be a link to anywhere
    note.write_text(tag)
    return how


def _bring(source: Path, target: Path, *, link: bool) -> str:
    if link and _reflink(source, target):
        return "reflink"
    if link and _hard_link(source, target):
        return "link"
    check_room(target, source.stat().st_size)
    try:
        shutil.copyfile(source, target)
    except BaseException:
        target.unlink(missing_ok=True)  # half a copy is of no use, and would take the space that was missing
        raise
    return "copy"


def _reflink(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("wb") as new:
        cloned = clone(old.fileno(), new.fileno())
    if not cloned:
        target.unlink()
    return cloned


def _hard_link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError as exc:
        if exc.errno in CANNOT_LINK:
            return False
        raise
    return True
