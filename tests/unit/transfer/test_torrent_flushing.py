"""Pieces are reported readable only behind a flush that was asked for after they were finished."""

from __future__ import annotations

import anyio
import pytest

from hali.transfer.flushing import Flusher

pytestmark = pytest.mark.anyio


class Disk:
    """Counts flushes; the test answers them."""

    def __init__(self) -> None:
        self.asked = 0
        self.readable: list[int] = []
        self.flusher = Flusher(self.readable.append)
        self.flusher.start(self.flush)

    def flush(self) -> None:
        self.asked += 1


async def test_a_piece_is_readable_after_the_flush_asked_for_behind_it() -> None:
    disk = Disk()
    assert disk.flusher.finished(1)
    assert (disk.asked, disk.readable) == (1, [])

    disk.flusher.answered()

    assert (disk.asked, disk.readable) == (1, [1])


async def test_pieces_that_finish_during_a_flush_share_the_next_one() -> None:
    disk = Disk()
    for index in (1, 2, 3):
        disk.flusher.finished(index)
    assert disk.asked == 1

    disk.flusher.answered()
    assert (disk.asked, disk.readable) == (2, [1])
    disk.flusher.answered()

    assert (disk.asked, disk.readable) == (2, [1, 2, 3])


async def test_a_piece_told_twice_is_reported_once() -> None:
    disk = Disk()
    assert [disk.flusher.finished(i) for i in (1, 1, 2, 2)] == [True, False, True, False]
    disk.flusher.answered()
    disk.flusher.answered()

    assert disk.readable == [1, 2]


async def test_draining_waits_for_the_flush_behind_the_one_under_way() -> None:
    disk = Disk()
    disk.flusher.finished(1)
    disk.flusher.finished(2)
    drained: list[bool] = []

    async def drain() -> None:
        drained.append(await disk.flusher.drain())

    async with anyio.create_task_group() as group:
        group.start_soon(drain)
        await anyio.wait_all_tasks_blocked()
        assert disk.asked == 2
        disk.flusher.answered()
        await anyio.wait_all_tasks_blocked()
        assert (drained, disk.readable) == ([], [1])
        disk.flusher.answered()

    assert (drained, disk.readable) == ([True], [1, 2])


async def test_an_answer_to_nobody_does_no_harm() -> None:
    disk = Disk()
    disk.flusher.answered()
    disk.flusher.finished(4)
    disk.flusher.answered()

    assert disk.readable == [4]


async def test_giving_up_ends_a_drain() -> None:
    disk = Disk()
    async with anyio.create_task_group() as group:
        group.start_soon(disk.flusher.drain)
        await anyio.wait_all_tasks_blocked()
        disk.flusher.give_up()
