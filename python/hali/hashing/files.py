"""Hashing whole files: from a thread of one's own, or from the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from hali.hashing._extension import native
from hali.hashing._native_errors import in_hali_words
from hali.hashing.counted import HASHED
from hali.hashing.pieces import File, PieceHasher
from hali.model.digests import FileDigests, PieceDigests
from hali.model.units import piece_span

T = TypeVar("T")

OnPiece: TypeAlias = Callable[[int, PieceDigests, bytes], object]
"""`on_piece(index, digests, midstate)`: a piece is done; False stops the hashing."""


def hash_file(
    file: File, *, threads: int = 0, on_piece: OnPiece | None = None, known: PieceHasher | None = None
) -> FileDigests:
    """Digests of a file with all cores; each byte is read once. Blocks.

    `known` holds what is known already (those pieces are not hashed again) and is filled on the way, also when this
    fails. `on_piece` is called on this thread for each piece that was read, with the SHA-256 midstate to keep.
    NotFound, Cancelled (on_piece returned False) or Failed (`code` is "file_changed" when somebody wrote to it).
    """
    return _hash(file, threads, on_piece, known)


async def hash_file_async(
    file: File, *, threads: int = 0, on_piece: OnPiece | None = None, known: PieceHasher | None = None
) -> FileDigests:
    """`hash_file` beside the event loop; when cancelled it stops after the pieces in work and leaves no thread.

    `on_piece` is called on the worker thread. There is no time limit: it takes as long as the disk does.
    """
    stop = threading.Event()

    def unless_stopped(index: int, digests: PieceDigests, midstate: bytes) -> object:
        return False if stop.is_set() else on_piece is None or on_piece(index, digests, midstate)

    return await _stoppable(partial(_hash, file, threads, unless_stopped, known), stop)


def blake3_ranges(file: File, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """BLAKE3 of each `(offset, length)` of `file`, in the order given; ValueError for one outside the file. Blocks."""
    with in_hali_words():
        return native.blake3_ranges(file, ranges)


def sha1_pieces(file: File, *, threads: int = 0) -> bytes:
    """The `pieces` of a v1 torrent of `file` (20 bytes per 16 MiB), and nothing else. Blocks."""
    with in_hali_words():
        return native.sha1_pieces(file, threads)


def backend() -> str:
    """The instruction sets in use on this machine, for people; ConfigError when HALI_HASH_BACKEND names a missing one."""
    with in_hali_words():
        return native.backend()


def available_backends() -> list[str]:
    """What HALI_HASH_BACKEND may be on this machine, best first."""
    return native.available_backends()


def build_profile() -> str:
    """`release` or `debug`; a benchmark refuses a debug build."""
    return native.build_profile()


def _hash(file: File, threads: int, on_piece: OnPiece | None, known: PieceHasher | None) -> FileDigests:
    raised: list[BaseException] = []

    def call(index: int, digests: tuple[bytes, bytes, bytes], midstate: bytes) -> object:
        if known is not None:
            HASHED.add(piece_span(index, known.length)[1])
        try:
            return on_piece is None or on_piece(index, PieceDigests(*digests), midstate)
        except BaseException as error:
            raised.append(error)
            raise

    with in_hali_words(spare=raised):
        digests = FileDigests(*native.hash_file(file, threads, call, known.native if known else None))
    if known is None:  # its length is known only now
        HASHED.add(digests.length)
    return digests


async def _stoppable(work: Callable[[], T], stop: threading.Event) -> T:
    """Run `work` in a thread; a cancellation sets `stop` and then waits for the thread to end."""

    async def set_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stop.set()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(set_when_cancelled)
            result = await anyio.to_thread.run_sync(work)
            group.cancel_scope.cancel()
        return result
    except ExceptionGroup as wrapped:  # what `work` raised; the other task raises nothing
        (error,) = wrapped.exceptions
        await checkpoint()  # a cancellation from outside comes before the Cancelled that it caused in `work`
        raise error from error.__cause__
