"""A file on its way in: pieces in any order, restarts, power cuts, no space."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hali.hashing import PieceHasher
from hali.model.errors import Failed, NoSpace, VerificationFailed
from hali.model.units import PIECE, piece_count, piece_span
from hali.share.incoming import IncomingFile
from hali.store import journal

LENGTH = 3 * PIECE + 12_345
DEADLINE_S = 30.0  # a hang is a failure


@pytest.fixture(scope="module")
def content() -> bytes:
    block = hashlib.sha256(b"hali").digest() * 4096
    return b"".join(block + bytes([n % 251]) * 7 for n in range(LENGTH // len(block) + 1))[:LENGTH]


def piece(content: bytes, index: int) -> bytes:
    offset, size = piece_span(index, LENGTH)
    return content[offset : offset + size]


async def write(incoming: IncomingFile, content: bytes, indices: Sequence[int]) -> None:
    for index in indices:
        await incoming.write_piece(index, piece(content, index))


async def opened(tmp_path: Path, **options: object) -> IncomingFile:
    return await IncomingFile.open(tmp_path, "m.gguf", LENGTH, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
@pytest.mark.parametrize("streaming", [True, False])
async def test_pieces_in_any_order_give_the_right_file_and_hash(
    tmp_path: Path, content: bytes, order: list[int], streaming: bool
) -> None:
    with await opened(tmp_path, streaming=streaming) as incoming:
        await write(incoming, content, order)
        digests = await incoming.finish()
    assert digests.sha256 == hashlib.sha256(content).digest()
    assert digests.sha1_pieces == b"".join(hashlib.sha1(piece(content, i)).digest() for i in range(4))
    assert (tmp_path / "m.gguf").read_bytes() == content


async def test_pieces_adopted_in_order_are_read_once(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their SHA-256 comes with their other digests; only what came out of order is read again to catch up."""
    caught_up = []
    catch_up = PieceHasher.catch_up

    def counted(hasher: PieceHasher, file: int) -> int:
        before = hasher.prefix
        caught_up.extend(range(before, after := catch_up(hasher, file)))
        return after

    monkeypatch.setattr(PieceHasher, "catch_up", counted)
    with await opened(tmp_path) as incoming:
        (tmp_path / "m.gguf").write_bytes(content)
        for index in (0, 1, 3, 2):
            await incoming.adopt_piece(index)
        assert caught_up == [3]
        assert incoming.journal.midstate == incoming.hasher.midstate()
        assert (await incoming.finish()).sha256 == hashlib.sha256(content).digest()


async def test_what_comes_while_the_file_is_caught_up_does_not_wait_for_it(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SHA-256 of 60 pieces takes a second, in which others can be hashed beside it."""
    catch_up, begun, go_on = PieceHasher.catch_up, threading.Event(), threading.Event()

    def held_up(hasher: PieceHasher, file: int) -> int:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return catch_up(hasher, file)

    with await opened(tmp_path) as incoming:
        (tmp_path / "m.gguf").write_bytes(content)
        monkeypatch.setattr(PieceHasher, "catch_up", held_up)
        async with anyio.create_task_group() as group:
            group.start_soon(incoming.adopt_piece, 1)
            await anyio.to_thread.run_sync(begun.wait, DEADLINE_S)
            with anyio.fail_after(DEADLINE_S):
                await incoming.adopt_piece(2)
                await incoming.adopt_piece(0)
            assert incoming.hasher.prefix == 1, "and piece 1 is still to be caught up with"
            go_on.set()
        await incoming.adopt_piece(3)
        assert (await incoming.finish()).sha256 == hashlib.sha256(content).digest()


async def test_a_restart_goes_on_where_it_stopped_and_hashes_nothing_again(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with await opened(tmp_path) as incoming:
        await write(incoming, content, [0, 1, 3])
    with await opened(tmp_path) as again:
        assert again.missing == [2]
        assert again.hasher.prefix == 2  # the SHA-256 of the prefix was kept as well
        monkeypatch.setattr(again.hasher.native.__class__, "hash_piece_at", None, raising=False)
        await write(again, content, [2])
        assert (await again.finish()).sha256 == hashlib.sha256(content).digest()
        assert again.rechecked == 0


async def test_after_a_power_cut_only_pieces_that_still_hash_right_are_believed(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with await opened(tmp_path) as incoming:
        await write(incoming, content, [0, 1, 2])
    with (tmp_path / "m.gguf").open("r+b") as file:  # a page that was never written out
        file.seek(PIECE + 5)
        file.write(b"\0" * 4096)
    monkeypatch.setattr(journal, "boot_id", lambda: "another boot")
    with await opened(tmp_path) as again:
        assert again.missing == [1, 3]
        assert again.rechecked == 3
        await write(again, content, [1, 3])
        assert (await again.finish()).sha256 == hashlib.sha256(content).digest()


@pytest.mark.parametrize("length", [LENGTH, 3 * PIECE, 12_345])
@pytest.mark.parametrize("torrent_piece", [PIECE, PIECE // 64])
async def test_the_bytes_that_are_there_are_those_of_the_pieces_on_record(
    tmp_path: Path, length: int, torrent_piece: int
) -> None:
    count = piece_count(length, torrent_piece)
    with await IncomingFile.open(tmp_path, "m.gguf", length, torrent_piece=torrent_piece) as incoming:
        assert incoming.done_bytes == 0
        for known in (range(0, count, 2), range(count - 1), range(count)):
            incoming.journal.torrent_pieces = set(known)
            assert incoming.done_bytes == sum(piece_span(i, length, torrent_piece)[1] for i in known)
        assert incoming.done_bytes == length
        incoming.journal.torrent_pieces.clear()
        await incoming.write_piece(0, bytes(min(PIECE, length)))
        assert incoming.done_bytes == min(PIECE, length)


async def test_a_piece_that_is_not_what_was_promised_is_not_put_on_record(tmp_path: Path, content: bytes) -> None:
    with await opened(tmp_path) as incoming:
        with pytest.raises(VerificationFailed) as caught:
            await incoming.adopt_piece(1, lambda digests: digests.sha1 == hashlib.sha1(piece(content, 1)).digest())
        assert caught.value.details == {"pieces": [1]}
        assert incoming.missing == [0, 1, 2, 3]


async def test_another_pinned_hash_or_source_begins_anew(tmp_path: Path, content: bytes) -> None:
    with await opened(tmp_path, sha256="ab") as incoming:
        await write(incoming, content, [0])
    with await opened(tmp_path, sha256="cd") as again:
        assert again.missing == [0, 1, 2, 3]


@pytest.mark.parametrize("what", ["gone", "short"])
async def test_a_journal_whose_file_is_gone_or_short_is_not_believed(tmp_path: Path, content: bytes, what: str) -> None:
    with await opened(tmp_path) as incoming:
        await write(incoming, content, [0, 1, 2, 3])
    if what == "gone":  # a crash between the move into the store and the end of the journal
        (tmp_path / "m.gguf").unlink()
    else:
        os.truncate(tmp_path / "m.gguf", PIECE)
    with await opened(tmp_path) as again:
        assert again.missing == [0, 1, 2, 3]


async def test_too_little_space_is_told_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=LENGTH))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(NoSpace, match="needs"):
        await opened(tmp_path)
    assert set(os.listdir("/proc/self/fd")) <= before  # a daemon that tries for days leaves nothing open


async def test_a_full_disk_on_the_way_is_a_clear_error_and_keeps_what_is_there(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with await opened(tmp_path) as incoming:
        await write(incoming, content, [0])

        def full(fd: int, data: bytes, offset: int) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(NoSpace, match="disk full"):
                await write(incoming, content, [1])
    with await opened(tmp_path) as again:
        assert again.missing == [1, 2, 3]


async def test_a_file_that_is_written_to_while_it_is_hashed_is_named(tmp_path: Path, content: bytes) -> None:
    def write_into_it(_done: int) -> None:
        os.truncate(tmp_path / "m.gguf", LENGTH + 1)

    (tmp_path / "m.gguf").write_bytes(content)
    with (
        await opened(tmp_path, writable=False) as incoming,
        pytest.raises(Failed, match=r"^m\.gguf was written to while it was hashed$"),
    ):
        await incoming.finish(write_into_it)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 3]])
async def test_pieces_that_were_written_over_since_are_forgotten(
    tmp_path: Path, content: bytes, order: list[int]
) -> None:
    with await opened(tmp_path) as incoming:
        await write(incoming, content, order)
        assert not await incoming.overwritten()
        with (tmp_path / "m.gguf").open("r+b") as file:
            file.seek(PIECE + 7)
            file.write(b"a lie")
        assert await incoming.overwritten()
    with await opened(tmp_path) as incoming:
        assert incoming.missing == sorted({0, 1, 2, 3} - {*order} | {1})
        await write(incoming, content, incoming.missing)
        assert (await incoming.finish()).sha256 == hashlib.sha256(content).digest()


async def test_a_symlink_planted_as_the_target_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "m.gguf").symlink_to(victim)
    with pytest.raises(Exception, match=r"m\.gguf"):
        await opened(tmp_path)
    assert victim.read_bytes() == b"precious"
