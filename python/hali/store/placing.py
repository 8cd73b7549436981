"""Moving the files of a model into its folder: all of them or none, also when the machine stops between two of them.

What is about to be moved is written down first; after a crash the next start moves the rest. It can: all files were verified and
synced before. Without a crash a failure moves back what was moved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from hali.config.files import write_atomically

NOTE = "placing.json"  # beside the files, until they are in their place

M = TypeVar("M", bound=msgspec.Struct)
R = TypeVar("R")


class Intent(msgspec.Struct, Generic[M], frozen=True):
    """What was about to happen."""

    directory: str  # where the files go, as seen from where they are
    meta: M


def place(folder: Path, directory: Path, files: Sequence[str], meta: M, finish: Callable[[], R]) -> R:
    """Move `files` from `folder` into `directory`, then `finish`. OSError: then they are all back in `folder`."""
    if folder == directory:
        return finish()
    for name in files:
        (folder / name).lstat()  # raises: nothing is begun that cannot be done
    intent = Intent(os.path.relpath(directory, folder), meta)
    write_atomically(folder / NOTE, msgspec.json.encode(intent))
    try:
        move(folder, directory, files)
        done = finish()
    except OSError:
        move(directory, folder, [name for name in files if not (folder / name).exists()])
        forget(folder)
        raise
    forget(folder)
    return done


def move(folder: Path, directory: Path, files: Sequence[str]) -> None:
    """Move those of `files` that are still in `folder`."""
    for name in files:
        if (folder / name).exists():
            os.replace(folder / name, directory / name)


def can_move(folder: Path, directory: Path, files: Sequence[str]) -> bool:
    """Whether each file is in one place or the other."""
    return all((folder / name).exists() or (directory / name).exists() for name in files)


def intended(folder: Path, meta: type[M]) -> Intent[M] | None:
    """What a crash interrupted in `folder`, if that can be read."""
    try:
        return msgspec.json.decode((folder / NOTE).read_bytes(), type=Intent[meta])  # type: ignore[valid-type]
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return None


def forget(folder: Path) -> None:
    """It is done, or will not be."""
    (folder / NOTE).unlink(missing_ok=True)
