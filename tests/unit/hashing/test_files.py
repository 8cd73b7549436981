"""hash_file, hash_file_async and blake3_ranges."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import blake3
import pytest

from hali.hashing import PieceHasher, StreamHasher, backend, blake3_ranges, build_profile, hash_file, hash_file_async
from hali.model.digests import FileDigests, PieceDigests
from hali.model.errors import Cancelled, Failed, NotFound
from hali.model.units import PIECE


@pytest.fixture(scope="session")
def expected(content: bytes) -> FileDigests:
    hasher = StreamHasher()
    hasher.update(content)
    return hasher.finish()


@pytest.fixture
def path(content: bytes, file_of: Callable[[bytes], Path]) -> Path:
    return file_of(content)


class Journal:
    """Keeps what `on_piece` is told, as a caller would write it down; stops after `limit` pieces."""

    def __init__(self, limit: int | None = None) -> None:
        self.pieces: dict[int, PieceDigests] = {}
        self.midstate = b""
        self.limit = limit

    def __call__(self, index: int, digests: PieceDigests, midstate: bytes) -> bool:
        self.pieces[index] = digests
        self.midstate = midstate
        return len(self.pieces) != self.limit

    def restored(self, length: int) -> PieceHasher:
        hasher = PieceHasher(length)
        for index, digests in self.pieces.items():
            hasher.record(index, digests)
        hasher.restore_midstate(self.midstate)
        return hasher


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
def test_any_number_of_threads_gives_the_digests_of_the_stream(threads: int, path: Path, expected: FileDigests) -> None:
    journal = Journal()
    assert hash_file(path, threads=threads, on_piece=journal) == expected
    assert sorted(journal.pieces) == [0, 1, 2, 3]
    assert b"".join(journal.pieces[i].sha1 for i in range(4)) == expected.sha1_pieces


def test_a_descriptor_is_hashed_whatever_its_position_and_stays_open(path: Path, expected: FileDigests) -> None:
    with open(path, "rb") as file:
        file.seek(77)
        assert hash_file(file.fileno()) == expected
        assert file.tell() == 77


def test_false_from_the_callback_stops_and_the_journal_is_enough_to_go_on(path: Path, expected: FileDigests) -> None:
    first = Journal(limit=2)
    with pytest.raises(Cancelled):
        hash_file(path, threads=1, on_piece=first)
    second = Journal()
    known = first.restored(expected.length)
    prefix = known.prefix
    assert hash_file(path, on_piece=second, known=known) == expected
    assert known.complete
    read_again = first.pieces.keys() & second.pieces.keys()
    assert all(index >= prefix for index in read_again)


def test_a_cancelled_run_leaves_what_it_did_in_known(path: Path, expected: FileDigests) -> None:
    known = PieceHasher(expected.length)
    with pytest.raises(Cancelled):
        hash_file(path, threads=1, on_piece=Journal(limit=1), known=known)
    assert 0 in known.have()
    assert hash_file(path, known=known) == expected


def test_nothing_is_read_when_all_is_known(path: Path, expected: FileDigests) -> None:
    known, journal = PieceHasher(expected.length), Journal()
    hash_file(path, known=known)
    assert hash_file(path, on_piece=journal, known=known) == expected
    assert journal.pieces == {}


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), FileNotFoundError(2, "mine"), OSError(28, "mine")])
def test_what_the_callback_raises_is_raised_as_it_is(error: Exception, path: Path) -> None:
    def on_piece(index: int, digests: PieceDigests, midstate: bytes) -> None:
        raise error

    with pytest.raises(type(error), match="mine") as caught:
        hash_file(path, on_piece=on_piece)
    assert caught.value is error


@pytest.mark.parametrize("length", [PIECE, 3 * PIECE + 4322])
def test_a_file_that_changes_size_while_it_is_hashed_is_an_error(length: int, path: Path) -> None:
    with pytest.raises(Failed, match=r"model\.gguf: ") as caught:
        hash_file(path, threads=1, on_piece=lambda *_: os.truncate(path, length))
    assert (caught.value.code, caught.value.retryable) == ("file_changed", True)


def test_a_file_rewritten_with_its_size_unchanged_is_an_error(path: Path) -> None:
    with pytest.raises(Failed, match="was written to"):
        hash_file(path, on_piece=lambda *_: os.utime(path, ns=(1, 1)))


def test_a_file_of_another_length_than_known_is_an_error(path: Path) -> None:
    with pytest.raises(Failed, match="instead of 5"):
        hash_file(path, known=PieceHasher(5))


def test_a_missing_file_a_folder_and_a_pipe_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nosuch: No such file"):
        hash_file(tmp_path / "nosuch")
    with pytest.raises(Failed, match="Is a directory"):
        hash_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Failed, match=r"pipe: not a regular file"):
        hash_file(tmp_path / "pipe")


def test_ranges_are_hashed_as_files_of_their_own(path: Path, content: bytes) -> None:
    ranges = [(0, len(content)), (5, 0), (PIECE - 1, 3), (100, 1_000_001)]
    assert blake3_ranges(path, ranges) == [blake3.blake3(content[o : o + n]).digest() for o, n in ranges]
    for bad in [(0, len(content) + 1), (len(content), 1), (-1, 1), (1, -1)]:
        with pytest.raises(ValueError, match=r"range|offset|length"):
            blake3_ranges(path, [bad])


def test_the_build_is_optimised_and_says_what_it_runs_on() -> None:
    assert build_profile() == "release"
    assert {part.split("=")[0] for part in backend().split()} == {"sha1", "sha256", "blake3"}


async def test_the_event_loop_goes_on_while_a_file_is_hashed(path: Path, expected: FileDigests) -> None:
    loop_thread, called_on = threading.get_ident(), set()

    def on_piece(index: int, digests: PieceDigests, midstate: bytes) -> None:
        called_on.add(threading.get_ident())

    assert await hash_file_async(path, on_piece=on_piece) == expected
    assert loop_thread not in called_on


async def test_errors_come_out_of_the_async_form_as_they_are(tmp_path: Path, path: Path) -> None:
    with pytest.raises(NotFound):
        await hash_file_async(tmp_path / "nosuch")
    with pytest.raises(Cancelled):
        await hash_file_async(path, on_piece=lambda *_: False)


async def test_cancelling_the_task_stops_the_hashing_and_leaves_no_thread(path: Path, expected: FileDigests) -> None:
    known, calls = PieceHasher(expected.length), list[int]()
    started, cancelled = anyio.Event(), threading.Event()

    def on_piece(index: int, digests: PieceDigests, midstate: bytes) -> None:
        calls.append(index)
        anyio.from_thread.run_sync(started.set)
        assert cancelled.wait(10)

    async def hash_it() -> None:
        await hash_file_async(path, threads=1, on_piece=on_piece, known=known)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(hash_it)
            await started.wait()
            group.cancel_scope.cancel()
            group.start_soon(_set_when_all_wait, cancelled)
    assert len(calls) == 1
    assert calls[0] in known.have()
    assert "hali-hash" not in _names_of_threads()


async def _set_when_all_wait(event: threading.Event) -> None:
    """Set `event` once every cancelled task has run its clean-up and waits."""
    with anyio.CancelScope(shield=True):
        await anyio.wait_all_tasks_blocked()
        event.set()


def _names_of_threads() -> set[str]:
    """Names of all threads of this process, those that Python does not know among them (Linux)."""
    return {comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm")}
