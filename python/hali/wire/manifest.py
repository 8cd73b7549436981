"""The identity of a model: the SHA-256 of its file, or of the list of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from hali.wire import jcs


class FileRef(msgspec.Struct, frozen=True):
    """One exact file of a model: its name, size in bytes, SHA-256."""

    name: str
    size: int
    sha256: str


def manifest(files: Sequence[FileRef]) -> bytes:
    """What a model of several files *is*: its files in the order of the names' bytes, as RFC 8785 writes the list."""
    ordered = sorted(files, key=lambda file: file.name.encode())
    return jcs.encode([{"name": file.name, "sha256": file.sha256, "size": file.size} for file in ordered])


def identity(files: Sequence[FileRef]) -> str:
    """The model's SHA-256: of one file that of its bytes, of several that of their `manifest`."""
    return files[0].sha256 if len(files) == 1 else hashlib.sha256(manifest(files)).hexdigest()
