"""A file that was wrong for a moment, or is wrong since: what is found out at the end, and what of it is fetched or hashed again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from hali.model.units import MIB, PIECE, piece_span
from hali.share.incoming import IncomingFile

LENGTH = PIECE + 3 * MIB + 5
LAST = PIECE // MIB + 3  # of the torrent's pieces


@pytest.fixture(scope="module")
def content() -> bytes:
    return b"".join(hashlib.sha256(bytes([n])).digest() * (LENGTH // 1600) for n in range(64))[:LENGTH]


async def opened(tmp_path: Path, torrent_piece: int = PIECE) -> IncomingFile:
    return await IncomingFile.open(tmp_path, "m.gguf", LENGTH, torrent_piece=torrent_piece)


def judge(content: bytes) -> Callable[[int, bytes], bool]:
    """Of a torrent with pieces of 1 MiB."""

    def is_right(index: int, data: bytes) -> bool:
        offset, size = piece_span(index, LENGTH, MIB)
        return data == content[offset : offset + size]

    return is_right


def put(tmp_path: Path, offset: int, data: bytes) -> None:
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def arrive(incoming: IncomingFile, tmp_path: Path, content: bytes) -> None:
    """All pieces of such a torrent are said to be there."""
    put(tmp_path, 0, content)
    for index in range(LAST + 1):
        incoming.journal.record_torrent_piece(index)
        for unit in incoming.completed_by(index):
            await incoming.adopt_piece(unit)


async def sha256_of(tmp_path: Path, torrent_piece: int = PIECE) -> bytes:
    with await opened(tmp_path, torrent_piece) as incoming:
        for unit in incoming.unhashed:
            await incoming.adopt_piece(unit)
        return (await incoming.finish()).sha256


@pytest.mark.parametrize("finished", [False, True])
async def test_a_sha256_that_followed_wrong_bytes_is_computed_again(
    tmp_path: Path, content: bytes, finished: bool
) -> None:
    with await opened(tmp_path) as incoming:
        await incoming.write_piece(1, content[PIECE:])
        put(tmp_path, PIECE + 7, b"a lie")
        await incoming.write_piece(0, content[:PIECE])  # and the prefix goes on over piece 1
        put(tmp_path, PIECE, content[PIECE:])
        if finished:
            assert (await incoming.finish()).sha256 != hashlib.sha256(content).digest()
        assert await incoming.overwritten()
    with await opened(tmp_path) as incoming:
        assert not incoming.missing
        assert not await incoming.overwritten()
    assert await sha256_of(tmp_path) == hashlib.sha256(content).digest()


async def test_of_a_torrent_with_small_pieces_only_what_is_wrong_is_missing(tmp_path: Path, content: bytes) -> None:
    with await opened(tmp_path, MIB) as incoming:
        await arrive(incoming, tmp_path, content)
        assert not await incoming.overwritten(judge(content))
        put(tmp_path, 3 * MIB + 7, b"a lie")
        assert await incoming.overwritten(judge(content))
    with await opened(tmp_path, MIB) as incoming:
        assert incoming.journal.torrent_pieces == {*range(LAST + 1)} - {3}
        assert incoming.missing == [0]
        put(tmp_path, 0, content)
        incoming.journal.record_torrent_piece(3)
    assert await sha256_of(tmp_path, MIB) == hashlib.sha256(content).digest()


async def test_where_nobody_can_tell_all_around_is_missing(tmp_path: Path, content: bytes) -> None:
    with await opened(tmp_path, MIB) as incoming:
        await arrive(incoming, tmp_path, content)
        put(tmp_path, 3 * MIB + 7, b"a lie")
        assert await incoming.overwritten()
    with await opened(tmp_path, MIB) as incoming:
        assert incoming.journal.torrent_pieces == {*range(PIECE // MIB, LAST + 1)}


async def test_a_piece_that_was_hashed_when_it_was_wrong_is_hashed_again(tmp_path: Path, content: bytes) -> None:
    with await opened(tmp_path, MIB) as incoming:
        await arrive(incoming, tmp_path, content[:5] + b"a lie" + content[10:])
        put(tmp_path, 0, content)
        assert await incoming.overwritten(judge(content))
    with await opened(tmp_path, MIB) as incoming:
        assert incoming.journal.torrent_pieces == {*range(LAST + 1)}
        assert incoming.unhashed == [0]
    assert await sha256_of(tmp_path, MIB) == hashlib.sha256(content).digest()


async def test_bytes_that_were_wrong_from_the_first_are_not_what_a_torrent_says(tmp_path: Path, content: bytes) -> None:
    with await opened(tmp_path, MIB) as incoming:
        await arrive(incoming, tmp_path, content[:5] + b"a lie" + content[10:])
        assert not await incoming.overwritten()  # they are what was hashed
        assert await incoming.overwritten(judge(content))
    with await opened(tmp_path, MIB) as incoming:
        assert incoming.journal.torrent_pieces == {*range(1, LAST + 1)}
