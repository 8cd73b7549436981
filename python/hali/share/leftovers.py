"""What no model needs any more: unfinished downloads that nobody goes on with, and torrents without their model."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from hali.store.models import INCOMING

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
    return [_look_at(folder) for folder in sorted(root.iterdir()) if folder.is_dir()] if root.is_dir() else []


def _look_at(folder: Path) -> Unfinished:
    found = [(path.name, path.lstat()) for path in folder.iterdir()]
    size = sum(info.st_blocks * 512 for _, info in found)
    touched = max((info.st_mtime for _, info in found), default=folder.stat().st_mtime)
    return Unfinished(folder.name, tuple(sorted(name for name, _ in found)), size, touched)


def stale(found: Collection[Unfinished], *, now: float, age: float, busy: Collection[str]) -> list[Unfinished]:
    """Those not touched for `age` seconds whose files no job works on (`busy`: file names)."""
    return [
        one
        for one in found
        if one.key.startswith(TRASH) or (now - one.touched >= age and not set(one.files) & set(busy))
    ]


def set_aside(models: Path, key: str) -> Path | None:
    """Take an unfinished download out of its place, to be deleted there; None when it is gone already.

    One rename, so that no job can begin with it between the look whether one has and this.
    """
    folder = models / INCOMING / key
    trash = folder.with_name(f"{TRASH}{os.urandom(4).hex()}")
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return None
    return trash


def orphans(torrents: Path, known: Collection[str]) -> list[Path]:
    """Torrents of models that are gone. Blocks."""
    return [path for path in _settled(torrents) if path.stem not in known]


def _settled(torrents: Path) -> Iterator[Path]:
    for path in sorted(torrents.glob("*.torrent")):
        if time.time() - path.stat().st_mtime >= SETTLED_S:
            yield path
