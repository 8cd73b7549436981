"""Piece hashing in Rust: one pass over bytes gives every digest hali needs of a model file.

A *piece* is 16 MiB (v1 piece and v2 piece-layer node), a *block* 16 KiB (v2 leaf). All functions may be called from
any thread and let other threads run while they hash. Buffers cross without a copy and must not be written to before
the call returns. A *file* argument is a path or the descriptor of a file open for reading; its position is neither
used nor moved.

Errors: ``OSError`` (with errno, and the file's name when it was opened by name) from the operating system,
``FileChanged`` when a file is not what it was, ``ValueError`` for arguments that cannot be, ``Cancelled`` when a
callback asked for it, ``NoBackend`` when the environment variable ``HALI_HASH_BACKEND`` names a backend that this
processor does not have.
"""

import os
from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from typing_extensions import Buffer

_File: TypeAlias = int | str | os.PathLike[str]
_Piece: TypeAlias = tuple[bytes, bytes, bytes]
_Digests: TypeAlias = tuple[int, bytes, bytes, bytes, bytes, bytes]

__all__ = [
    "Cancelled",
    "FileChanged",
    "NoBackend",
    "PieceHasher",
    "StreamHasher",
    "available_backends",
    "backend",
    "blake3_ranges",
    "build_profile",
    "hash_file",
    "hash_piece",
    "sha1_pieces",
]

class Cancelled(Exception):
    """A callback returned False."""

class FileChanged(OSError):
    """A file had another length than expected, or was written to while it was hashed."""

class NoBackend(ValueError):
    """``HALI_HASH_BACKEND`` names a backend that is not one of ``available_backends()``."""

@final
class PieceHasher:
    """Collects the digests of a file of known length, piece by piece, in any order, from any thread.

    The file's SHA-256 follows the *prefix*: the pieces 0 … ``prefix - 1`` that it has seen. Digests of a piece are
    ``(sha1, root, cv)``: SHA-1, v2 piece-layer hash, BLAKE3 chaining value. For a file of at most one piece ``root``
    is the BEP 52 pieces root and ``cv`` the file's BLAKE3.
    """

    def __new__(cls, length: int) -> PieceHasher:
        """Nothing known yet of a file of `length` bytes (at most 16 TiB)."""

    @property
    def length(self) -> int:
        """Bytes of the file."""

    @property
    def piece_count(self) -> int:
        """Pieces of the file; 0 when it is empty."""

    @property
    def prefix(self) -> int:
        """Pieces that the file's SHA-256 has seen."""

    @property
    def complete(self) -> bool:
        """Whether ``finish`` will succeed: every piece is known and in the prefix."""

    def add_piece(self, index: int, data: Buffer) -> _Piece:
        """Hash and record piece `index`, of which `data` must be all bytes; move the prefix if it is the next one."""

    def hash_piece_at(self, file: _File, index: int) -> tuple[_Piece, bytes | None]:
        """Hash piece `index` from `file` and record nothing: for checking. Needs memory for the piece.

        The second value is the midstate after the piece when it is the next one of the prefix, for `advance`.
        """

    def advance(self, midstate: bytes) -> bool:
        """Move the prefix by the one piece after which `hash_piece_at` found this midstate; False if it moved meanwhile.

        It is trusted: a wrong one gives a wrong SHA-256.
        """

    def record(self, index: int, sha1: bytes, root: bytes, cv: bytes) -> None:
        """Take digests that were computed before; they are trusted and do not move the prefix."""

    def piece(self, index: int) -> _Piece | None:
        """The digests of piece `index`, or None when they are not known."""

    def catch_up(self, file: _File) -> int:
        """Read the known pieces just beyond the prefix from `file` into the SHA-256; return the new prefix.

        All known pieces must have been written by then.
        """

    def midstate(self) -> bytes:
        """The prefix and its SHA-256 state: 40 bytes to keep, for `restore_midstate`. Never waits."""

    def restore_midstate(self, saved: bytes) -> None:
        """Go on where `midstate` was taken. It is trusted: a wrong one gives a wrong SHA-256."""

    def have(self) -> list[int]:
        """Indices of the known pieces, ascending."""

    def missing(self) -> list[int]:
        """Indices of the unknown pieces, ascending."""

    def finish(self) -> _Digests:
        """The file's digests, as `hash_file` returns them; ValueError unless ``complete``."""

@final
class StreamHasher:
    """Digests of a stream whose length is not known before its end; one thread, a few KiB of memory."""

    def __new__(cls) -> StreamHasher: ...
    @property
    def length(self) -> int:
        """Bytes taken so far."""

    def update(self, data: Buffer) -> None:
        """Take the next bytes, any number of them."""

    def finish(self) -> _Digests:
        """The digests of all bytes taken, as `hash_file` returns them. Ends the hasher: then all is ValueError."""

def hash_file(
    file: _File,
    threads: int = 0,
    on_piece: Callable[[int, _Piece, bytes], object] | None = None,
    known: PieceHasher | None = None,
) -> _Digests:
    """Digests of a file: ``(length, sha256, blake3, sha1_pieces, v2_root, v2_layer)``. Each byte is read once.

    `threads` 0 takes all cores up to four; memory is three times 16 MiB for each thread and one more. `known` is what is already
    known of this file: its pieces are read only where the SHA-256 still needs them and are not hashed again; it is
    filled on the way, so after an error or Cancelled it holds what was done. `on_piece(index, (sha1, root, cv),
    midstate)` is called on the calling thread for each piece that was read, in the order in which they were finished;
    False stops with Cancelled, what it raises is raised here, and the workers do not wait for it.

    ``v2_root`` is 32 zero bytes for an empty file, ``v2_layer`` empty for a file of at most one piece.
    """

def hash_piece(data: Buffer, index: int, length: int) -> _Piece:
    """``(sha1, root, cv)`` of piece `index` of a file of `length` bytes; `data` must be exactly that piece."""

def blake3_ranges(file: _File, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """BLAKE3 of each ``(offset, length)`` of `file`, on several cores, in the order given; ranges may overlap.

    ValueError when a range does not lie within the file.
    """

def sha1_pieces(file: _File, threads: int = 0) -> bytes:
    """SHA-1 of each 16 MiB piece of `file`, 20 bytes a piece: the ``pieces`` of a v1 torrent, and nothing else.

    Several pieces at once on each of `threads` cores (0 as for ``hash_file``), in 3 MiB of memory a thread.
    """

def backend() -> str:
    """The instruction sets in use here, such as ``sha1=sha-ni sha256=sha-ni blake3=avx512``.

    ``HALI_HASH_BACKEND`` chooses the one of SHA-1 and SHA-256 when the process first hashes; BLAKE3 chooses its own.
    """

def available_backends() -> list[str]:
    """The names that ``HALI_HASH_BACKEND`` may have on this processor, best first; ``portable`` is always there."""

def build_profile() -> str:
    """``release`` or ``debug``; a benchmark refuses to run on a debug build."""
