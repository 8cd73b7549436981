"""Hashing by pieces and by stream, while the bytes are still in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hali.hashing._extension import native
from hali.hashing._native_errors import in_hali_words
from hali.hashing.counted import HASHED
from hali.model.digests import FileDigests, PieceDigests
from hali.model.units import PIECE, piece_count, piece_span

if TYPE_CHECKING:
    from typing_extensions import Buffer

File: TypeAlias = int | str | os.PathLike[str]
"""A path, or the descriptor of a file open for reading."""


class PieceHasher:
    """Collects the digests of a file of known length, piece by piece, in any order, from any thread.

    The file's SHA-256 follows the *prefix*, the pieces 0 … `prefix - 1`. Wrong sizes and indices are ValueError.
    """

    __slots__ = ("native",)

    def __init__(self, length: int) -> None:
        with in_hali_words():
            self.native = native.PieceHasher(length)

    @property
    def length(self) -> int:
        """Bytes of the file."""
        return self.native.length

    @property
    def piece_count(self) -> int:
        """Pieces of the file; 0 when it is empty."""
        return self.native.piece_count

    @property
    def prefix(self) -> int:
        """Pieces that the file's SHA-256 has seen."""
        return self.native.prefix

    @property
    def complete(self) -> bool:
        """Whether `finish` will succeed: every piece is known and in the prefix."""
        return self.native.complete

    def add_piece(self, index: int, data: Buffer) -> PieceDigests:
        """Hash and record piece `index`, given whole; moves the prefix if it is the next one. Blocks some 25 ms."""
        digests = PieceDigests(*self.native.add_piece(index, data))
        HASHED.add(memoryview(data).nbytes)
        return digests

    def hash_piece_at(self, file: File, index: int) -> tuple[PieceDigests, bytes | None]:
        """Hash piece `index` from `file`, recording nothing: for checking what is on disk.

        With it comes the midstate after the piece if it is the next one of the prefix, for `advance`.
        """
        with in_hali_words():
            digests, midstate = self.native.hash_piece_at(file, index)
        HASHED.add(piece_span(index, self.length)[1])
        return PieceDigests(*digests), midstate

    def advance(self, midstate: bytes) -> bool:
        """Move the prefix by the piece that `hash_piece_at` gave this for; False if the prefix moved meanwhile."""
        return self.native.advance(midstate)

    def record(self, index: int, digests: PieceDigests) -> None:
        """Take digests that were computed before; they are trusted and do not move the prefix."""
        self.native.record(index, digests.sha1, digests.root, digests.cv)

    def piece(self, index: int) -> PieceDigests | None:
        """The digests of piece `index`, or None when they are not known."""
        found = self.native.piece(index)
        return None if found is None else PieceDigests(*found)

    def catch_up(self, file: File) -> int:
        """Read the known pieces just beyond the prefix from `file` into the SHA-256; the new prefix.

        All known pieces must have been written by then.
        """
        with in_hali_words():
            return self.native.catch_up(file)

    def midstate(self) -> bytes:
        """The prefix and its SHA-256 state: 40 bytes to keep for `restore_midstate`."""
        return self.native.midstate()

    def restore_midstate(self, saved: bytes) -> None:
        """Go on where `midstate` was taken; ValueError when it cannot be of this file. It is trusted."""
        self.native.restore_midstate(saved)

    def have(self) -> list[int]:
        """Indices of the known pieces, ascending."""
        return self.native.have()

    def missing(self) -> list[int]:
        """Indices of the unknown pieces, ascending."""
        return self.native.missing()

    def finish(self) -> FileDigests:
        """The file's digests; ValueError unless `complete`."""
        return FileDigests(*self.native.finish())


class StreamHasher:
    """Digests of a stream whose length is not known before its end."""

    __slots__ = ("_native",)

    def __init__(self) -> None:
        with in_hali_words():
            self._native = native.StreamHasher()

    @property
    def length(self) -> int:
        """Bytes taken so far."""
        return self._native.length

    def update(self, data: Buffer) -> None:
        """Take the next bytes, any number of them."""
        self._native.update(data)
        HASHED.add(memoryview(data).nbytes)

    def finish(self) -> FileDigests:
        """The digests of all bytes taken; ends the hasher, whose methods then raise ValueError."""
        return FileDigests(*self._native.finish())


def hash_piece(data: Buffer, index: int, length: int) -> PieceDigests:
    """Digests of piece `index` of a file of `length` bytes; `data` must be exactly that piece."""
    with in_hali_words():
        digests = PieceDigests(*native.hash_piece(data, index, length))
    HASHED.add(memoryview(data).nbytes)
    return digests


def padded_sha1(data: Buffer) -> bytes:
    """SHA-1 of the last piece of a file with zeros up to 16 MiB: what a v1 torrent has for it when another file follows (BEP 47)."""
    piece = bytearray(PIECE)
    view = memoryview(data)
    piece[: view.nbytes] = view
    return hash_piece(piece, 0, PIECE).sha1


def padded_sha1_of(path: Path) -> bytes:
    """`padded_sha1` of the last piece of a file. Reads up to 16 MiB; OSError."""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek((piece_count(length) - 1) * PIECE)
        return padded_sha1(file.read())
