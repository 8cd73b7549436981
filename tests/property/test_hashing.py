"""hali's digests equal those of hashlib, blake3 and libtorrent for any length, order and cut."""

from __future__ import annotations

import functools
import hashlib
import random
import tempfile
from pathlib import Path
from typing import Any

import blake3
import libtorrent as lt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hali.hashing import PieceHasher, StreamHasher, blake3_ranges, hash_file
from hali.model.digests import FileDigests
from hali.model.units import BLOCK, PIECE, piece_count, piece_span

LONGEST = 5 * PIECE + 2 * BLOCK

near_edges = st.builds(
    lambda unit, times, off: min(LONGEST, max(0, unit * times + off)),
    st.sampled_from([64, BLOCK, PIECE]),
    st.integers(0, 5),
    st.one_of(st.sampled_from([-1, 0, 1]), st.integers(-2 * BLOCK, 2 * BLOCK)),
)
relaxed = settings(derandomize=True, deadline=None, max_examples=25)  # an example hashes up to 80 MiB several times


@functools.cache
def content() -> memoryview:
    return memoryview(blake3.blake3(b"hali property tests").digest(length=LONGEST))


def libtorrent_fields(path: Path, length: int) -> tuple[bytes, bytes, bytes]:
    """SHA-1 pieces, pieces root and piece layer of the hybrid torrent that libtorrent makes of the file."""
    torrent = lt.create_torrent([lt.create_file_entry(path.name, length)], PIECE)
    lt.set_piece_hashes(torrent, str(path.parent))
    made: dict[bytes, Any] = torrent.generate()
    root = made[b"info"][b"file tree"][path.name.encode()][b""][b"pieces root"]
    return made[b"info"][b"pieces"], root, made[b"piece layers"].get(root, b"")


def by_stream(data: memoryview, chunk: int) -> FileDigests:
    hasher = StreamHasher()
    for start in range(0, len(data), chunk):
        hasher.update(data[start : start + chunk])
    return hasher.finish()


@relaxed
@given(length=near_edges, threads=st.integers(1, 4))
@example(length=PIECE - 1, threads=2)
@example(length=PIECE, threads=2)
@example(length=PIECE + 1, threads=2)
@example(length=3 * PIECE - BLOCK - 1, threads=3)
@example(length=5 * PIECE, threads=1)
def test_a_file_has_the_digests_that_hashlib_blake3_and_libtorrent_give(length: int, threads: int) -> None:
    data = content()[:length]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        path.write_bytes(data)
        found = hash_file(path, threads=threads)
        assert found.sha256 == hashlib.sha256(data).digest()
        assert found.blake3 == blake3.blake3(data).digest()
        if length:  # libtorrent refuses a torrent without bytes
            assert (found.sha1_pieces, found.v2_root, found.v2_layer) == libtorrent_fields(path, length)


@relaxed
@given(length=near_edges, seed=st.integers(0, 2**32), cut=st.integers(1000, 3 * PIECE))
@example(length=5 * PIECE - 1, seed=1, cut=PIECE)
@example(length=2 * PIECE, seed=2, cut=PIECE + 1)
def test_order_of_pieces_and_cuts_of_a_stream_do_not_matter(length: int, seed: int, cut: int) -> None:
    data = content()[:length]
    order = list(range(piece_count(length)))
    random.Random(seed).shuffle(order)
    hasher = PieceHasher(length)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        for index in order:
            offset, size = piece_span(index, length)
            hasher.add_piece(index, data[offset : offset + size])
        hasher.catch_up(file.fileno())
    assert hasher.finish() == by_stream(data, cut)


@relaxed
@given(length=near_edges, stop=st.integers(0, 5), known=st.sets(st.integers(0, 5)))
@example(length=4 * PIECE + 1, stop=2, known={0, 3})
@example(length=5 * PIECE, stop=5, known={1, 2, 3})
@example(length=3 * PIECE, stop=0, known={0, 1, 2})
def test_any_saved_midstate_and_any_known_pieces_lead_to_the_same_end(length: int, stop: int, known: set[int]) -> None:
    data = content()[:length]
    whole, resumed = PieceHasher(length), PieceHasher(length)
    for index in range(whole.piece_count):
        offset, size = piece_span(index, length)
        if index == stop:
            resumed.restore_midstate(whole.midstate())
        digests = whole.add_piece(index, data[offset : offset + size])
        if index in known:
            resumed.record(index, digests)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        assert hash_file(file.name, known=resumed) == whole.finish()


@relaxed
@given(ranges=st.lists(st.tuples(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK)), max_size=8))
def test_any_ranges_are_hashed_as_blake3_does(ranges: list[tuple[int, int]]) -> None:
    data = content()[: 6 * BLOCK]
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        assert blake3_ranges(file.name, ranges) == [blake3.blake3(data[o : o + n]).digest() for o, n in ranges]
