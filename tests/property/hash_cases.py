"""Lengths around the edges of blocks, lanes and pieces, and the digests of files of those lengths.

`python -m tests.property.hash_cases` prints hali's digests of some of them, a line each: run in a process of its own,
since HALI_HASH_BACKEND is read once.
"""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import blake3

from hali.hashing import PieceHasher, hash_file, sha1_pieces
from hali.model.digests import FileDigests
from hali.model.units import BLOCK, PIECE, piece_count, piece_span

LONGEST = 7 * PIECE + BLOCK


@functools.cache
def content() -> memoryview:
    """The bytes of which all files are prefixes."""
    return memoryview(blake3.blake3(b"hali hash cases").digest(length=LONGEST))


def lengths(count: int, seed: int) -> list[int]:
    """Most files have up to a few blocks, some up to 64 (four times the widest vector), one in twenty some pieces."""
    rng = random.Random(seed)

    def near(unit: int, times: int, off: int) -> int:
        return min(LONGEST, max(0, unit * times + rng.choice([0, 1, -1, 55, 56, 63, 64, 65, rng.randint(-off, off)])))

    def one() -> int:
        kind = rng.random()
        if kind < 0.05:
            return near(PIECE, rng.randint(1, 7), 3 * BLOCK)
        return near(BLOCK, rng.randint(0, 64 if kind < 0.3 else 4), BLOCK)

    return [one() for _ in range(count)]


def files(sizes: list[int]) -> Iterator[tuple[memoryview, Path]]:
    """Each of `sizes` as bytes and as a file, which lives until the next one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        for size in sizes:
            path.write_bytes(content()[:size])
            yield content()[:size], path


def by_pieces(data: memoryview) -> FileDigests:
    """As when the pieces of a download come last first, and are read again for the SHA-256."""
    hasher, count = PieceHasher(len(data)), piece_count(len(data))
    spans = [piece_span(index, len(data)) for index in range(count)]
    for index in reversed(range(count)):
        hasher.add_piece(index, data[spans[index][0] : sum(spans[index])])
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        hasher.catch_up(file.name)
    return hasher.finish()


def line(digests: FileDigests) -> str:
    """All digests in hexadecimal."""
    parts = (digests.sha256, digests.blake3, digests.sha1_pieces, digests.v2_root, digests.v2_layer)
    return " ".join([str(digests.length), *(part.hex() or "-" for part in parts)])


if __name__ == "__main__":
    for data, path in files(lengths(120, seed=2)):
        found = hash_file(path, threads=len(data) % 3 + 1)
        assert by_pieces(data) == found, len(data)
        assert sha1_pieces(path, threads=len(data) % 2 + 1) == found.sha1_pieces, len(data)
        print(line(found))
