"""What no model needs any more: unfinished downloads that nobody goes on with, and torrents without their model."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from hali.runtime.log import get_logger
from hali.store.models import INCOMING

log = get_logger(__name__)

TRASH = ".gone-"  # a folder that is being deleted: no key looks like it
# A model's torrent is written a moment before its record; an orphan is one that stayed without it.
SETTLED_S = 3600.0


class Unfinished(msgspec.Struct, frozen=True):
    """A folder of `.incoming`."""

    key: str
    files: tuple[str, ...]
    size: int  # bytes on disk: an unfinished file has holes
    touched: float  # seconds since 1970


def unfinished(models: Path) -> list[Unfinished]:
    """All folders of unfinished downloads, and what an interrupted prune left of them. Blocks."""
    root = models / INCOMING
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [found for folder in folders if (found := _look_at(folder)) is not None]


def _look_at(folder: Path) -> Unfinished | None:
    """None for what is no folder of ours, or went away while it was looked at."""
    try:
        if folder.is_symlink() or not folder.is_dir():
            return None
        found = [(path.name, path.lstat()) for path in folder.iterdir()]
        touched = max((info.st_mtime for _, info in found), default=folder.stat().st_mtime)
    except FileNotFoundError:
        return None
    size = sum(info.st_blocks * 512 for _, info in found)
    return Unfinished(folder.name, tuple(sorted(name for name, _ in found)), size, touched)


def stale(found: Collection[Unfinished], *, now: float, age: float, busy: Collection[str]) -> list[Unfinished]:
    """Those not touched for `age` seconds whose files no job works on (`busy`: file names)."""
    return [
        one
        for one in found
        if one.key.startswith(TRASH) or (now - one.touched >= age and not set(one.files) & set(busy))
    ]


def set_aside(models: Path, key: str) -> Path | None:
    """Take an unfinished download out of its place, to be deleted there; None when it is gone already or the disk is read-only.

    One rename, so that no job can begin with it between the look whether one has and this.
    """
    folder = models / INCOMING / key
    trash = folder.with_name(f"{TRASH}{os.urandom(4).hex()}")
    try:
        folder.rename(trash)
    except OSError as exc:
        log.warning("leftovers.not_removed", key=key, error=str(exc))
        return None
    return trash


def orphans(torrents: Path, known: Collection[str]) -> list[Path]:
    """Torrents of models that are gone. Blocks."""
    return [path for path in sorted(torrents.glob("*.torrent")) if path.stem not in known and _is_settled(path)]


def _is_settled(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime >= SETTLED_S
    except FileNotFoundError:
        return False


def drop(torrent: Path) -> bool:
    """Delete an orphan; False when the disk does not let us. Blocks."""
    try:
        torrent.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("leftovers.not_removed", torrent=torrent.name, error=str(exc))
        return False
    return True
