"""Bringing a local file into the store's file system: by reflink or hard link when it can, else by copy."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from hali.share.incoming import check_room
from hali.store.cloning import clone

NOTE = "imported"  # beside the target; a suffix to its name might be more than a file system allows
CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES)


def bring_in(source: Path, target: Path, *, link: bool, tag: str) -> str:
    """Make `target` hold the bytes of `source`: "reflink", "link", "copy", or "kept" when an earlier try had finished.

    `tag` names this version of the source; a note of it beside the target tells a finished copy from a broken one.
    """
    note = target.with_name(NOTE)
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
