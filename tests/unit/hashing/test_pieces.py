"""PieceHasher, StreamHasher and hash_piece."""

from __future__ import annotations

import array
import hashlib
import mmap
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import blake3
import pytest

from hali.hashing import PieceHasher, StreamHasher, hash_piece
from hali.model.digests import PieceDigests
from hali.model.errors import Failed, NotFound
from hali.model.units import PIECE, piece_count, piece_span


def piece(data: bytes, index: int) -> memoryview:
    offset, size = piece_span(index, len(data))
    return memoryview(data)[offset : offset + size]


def streamed(data: bytes) -> StreamHasher:
    hasher = StreamHasher()
    hasher.update(data)
    return hasher


def test_pieces_in_any_order_give_the_digests_of_the_stream(content: bytes, file_of: Callable[[bytes], Path]) -> None:
    hasher = PieceHasher(len(content))
    for index in (2, 0, 3, 1):
        added = hasher.add_piece(index, piece(content, index))
        assert added == hasher.piece(index) == hash_piece(piece(content, index), index, len(content))
    assert (hasher.prefix, hasher.complete) == (2, False)  # 0 and 1 came as the next ones, 2 and 3 did not
    assert hasher.catch_up(file_of(content)) == 4
    assert hasher.finish() == streamed(content).finish()


def test_digests_are_those_of_hashlib_and_blake3(content: bytes) -> None:
    found = streamed(content).finish()
    assert found.length == len(content)
    assert found.sha256 == hashlib.sha256(content).digest()
    assert found.sha256_hex == hashlib.sha256(content).hexdigest()
    assert found.blake3 == blake3.blake3(content).digest()
    pieces = [hashlib.sha1(piece(content, i)).digest() for i in range(piece_count(len(content)))]
    assert found.sha1_pieces == b"".join(pieces)


def test_an_empty_file_is_complete_at_once_and_has_no_root() -> None:
    hasher = PieceHasher(0)
    found = hasher.finish()
    assert (hasher.piece_count, hasher.missing(), hasher.complete) == (0, [], True)
    assert found.sha256 == hashlib.sha256().digest()
    assert (found.sha1_pieces, found.v2_root, found.v2_layer) == (b"", bytes(32), b"")
    assert found == StreamHasher().finish()


def test_recorded_pieces_and_a_midstate_go_on_where_they_were_saved(content: bytes) -> None:
    before = PieceHasher(len(content))
    kept = [before.add_piece(index, piece(content, index)) for index in range(2)]
    saved = before.midstate()
    after = PieceHasher(len(content))
    after.restore_midstate(saved)
    for index, digests in enumerate(kept):
        after.record(index, digests)
    assert (len(saved), after.prefix, after.have(), after.missing()) == (40, 2, [0, 1], [2, 3])
    for index in (2, 3):
        after.add_piece(index, piece(content, index))
    assert after.finish() == streamed(content).finish()


@pytest.mark.parametrize("saved", [b"", bytes(39), bytes(41), b"\xff" * 40, bytes(7) + b"\x05" + bytes(32)])
def test_a_midstate_that_cannot_be_of_this_file_is_refused(saved: bytes) -> None:
    with pytest.raises(ValueError, match="midstate"):
        PieceHasher(4 * PIECE).restore_midstate(saved)


def test_catch_up_stops_at_the_first_unknown_piece(content: bytes, file_of: Callable[[bytes], Path]) -> None:
    hasher = PieceHasher(len(content))
    for index in (1, 3):
        hasher.record(index, hash_piece(piece(content, index), index, len(content)))
    with open(file_of(content), "rb") as file:
        assert hasher.catch_up(file.fileno()) == 0
        hasher.record(0, hash_piece(piece(content, 0), 0, len(content)))
        assert hasher.catch_up(file.fileno()) == 2
    with pytest.raises(ValueError, match="1 of 4 pieces missing, SHA-256 covers 2"):
        hasher.finish()


def test_the_next_piece_on_disk_brings_the_midstate_after_it(content: bytes, file_of: Callable[[bytes], Path]) -> None:
    hasher, path = PieceHasher(len(content)), file_of(content)
    for index in range(hasher.piece_count):
        digests, midstate = hasher.hash_piece_at(path, index)
        assert hasher.prefix == index, "looking moves nothing"
        hasher.record(index, digests)
        assert midstate is not None and hasher.advance(midstate)
        assert not hasher.advance(midstate), "once only"
    assert hasher.finish() == streamed(content).finish()
    with pytest.raises(ValueError, match="bad SHA-256 midstate"):
        hasher.advance(b"short")


def test_a_piece_on_disk_is_hashed_by_path_and_by_descriptor_and_not_recorded(
    content: bytes, file_of: Callable[[bytes], Path]
) -> None:
    hasher, path = PieceHasher(len(content)), file_of(content)
    expected = hash_piece(piece(content, 3), 3, len(content))
    with open(path, "rb") as file:
        assert hasher.hash_piece_at(path, 3) == hasher.hash_piece_at(file.fileno(), 3) == (expected, None)
        assert file.tell() == 0
    assert hasher.have() == []


def test_a_flipped_byte_changes_the_digests_of_its_piece_only(content: bytes) -> None:
    damaged = bytearray(content)
    damaged[PIECE + 5] ^= 1
    for index in range(4):
        good = hash_piece(piece(content, index), index, len(content))
        bad = hash_piece(piece(bytes(damaged), index), index, len(content))
        differ = [a != b for a, b in zip((good.sha1, good.root, good.cv), (bad.sha1, bad.root, bad.cv), strict=True)]
        assert differ == [index == 1] * 3


def test_any_contiguous_buffer_is_taken(tmp_path: Path) -> None:
    data = bytes(range(256)) * 64
    path = tmp_path / "file"
    path.write_bytes(data)
    expected = hash_piece(data, 0, len(data))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for buffer in (bytearray(data), memoryview(data), array.array("I", data), mapped):
            assert hash_piece(buffer, 0, len(data)) == expected


def test_a_buffer_with_gaps_is_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        hash_piece(memoryview(bytes(10))[::2], 0, 5)
    with pytest.raises(TypeError):
        hash_piece("text", 0, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize(("index", "size"), [(0, PIECE - 1), (0, 5), (1, 4), (1, 6), (2, 5), (-1, 5), (2**32, 5)])
def test_a_piece_of_the_wrong_size_or_index_is_refused(index: int, size: int, content: bytes) -> None:
    hasher = PieceHasher(PIECE + 5)
    with pytest.raises(ValueError, match="piece"):
        hasher.add_piece(index, content[:size])
    assert hasher.have() == []


@pytest.mark.parametrize("length", [-1, 2**44 + 1, 2**63 - 1])
def test_a_length_that_no_file_has_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="length"):
        PieceHasher(length)


@pytest.mark.parametrize("field", ["sha1", "root", "cv"])
def test_a_record_with_digests_of_the_wrong_size_is_refused(field: str) -> None:
    sizes = {"sha1": 20, "root": 32, "cv": 32}
    sizes[field] -= 1
    with pytest.raises(ValueError, match=field):
        PieceHasher(5).record(0, PieceDigests(**{name: bytes(size) for name, size in sizes.items()}))


def test_threads_may_add_pieces_of_one_file_at_the_same_time(content: bytes, file_of: Callable[[bytes], Path]) -> None:
    hasher, path = PieceHasher(len(content)), file_of(content)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda index: hasher.add_piece(index, piece(content, index)), range(4)))
    hasher.catch_up(path)
    assert hasher.finish() == streamed(content).finish()


def test_a_finished_stream_takes_nothing_more() -> None:
    hasher = streamed(b"abc")
    assert hasher.length == 3
    hasher.finish()
    for use in (hasher.finish, lambda: hasher.update(b"d"), lambda: hasher.length):
        with pytest.raises(ValueError, match="finished"):
            use()


def test_a_missing_or_short_file_and_a_closed_descriptor_are_told_apart(file_of: Callable[[bytes], Path]) -> None:
    hasher, short = PieceHasher(100), file_of(bytes(99))
    with pytest.raises(NotFound, match=r"nosuch: No such file"):
        hasher.hash_piece_at(short.with_name("nosuch"), 0)
    with pytest.raises(Failed, match="ends before byte 100") as caught:
        hasher.hash_piece_at(short, 0)
    assert caught.value.code == "file_changed"
    closed = os.open(short, os.O_RDONLY)
    os.close(closed)
    with pytest.raises(Failed, match="Bad file descriptor"):
        hasher.hash_piece_at(closed, 0)
    with pytest.raises(ValueError, match="descriptor"):
        hasher.hash_piece_at(-1, 0)
