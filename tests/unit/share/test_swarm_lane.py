"""What a swarm brings is put on record, several pieces at a time, whatever becomes of the fetch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import pytest

from hali.model.errors import TransferFailed, VerificationFailed
from hali.model.ids import InfoHashes
from hali.runtime.channels import Watch
from hali.share.swarm_lane import HASHED_AT_ONCE, SwarmLane
from hali.transfer.events import FetchEvent, FetchFailed, Finished, PieceDone, StartedOver
from hali.transfer.magnet import Magnet

PIECES = 3 * HASHED_AT_ONCE


class Record:
    """An intake of pieces of our own size: `wrong` is none that was promised, and no piece is through before `through` says so."""

    is_canonical, metainfo = True, None

    def __init__(self, wrong: int | None = None) -> None:
        self.wrong, self.done, self.at_once, self.most = wrong, set[int](), 0, 0
        self.through = anyio.Event()
        self.lied_to = False

    async def swarm_piece(self, index: int, _: Mapping[str, int]) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if self.at_once == HASHED_AT_ONCE:
            self.through.set()
        await self.through.wait()
        self.at_once -= 1
        if index == self.wrong:
            raise VerificationFailed("not what the torrent promises")
        self.done.add(index)


class Fetch:
    """All pieces come at once, each that is doubted again, and when there is no doubt any more `end`."""

    name = "model.gguf"

    def __init__(self, record: Record, end: FetchEvent) -> None:
        self._record, self._end = record, end
        self._doubted, self._news = list[int](), anyio.Event()
        self.mends = True  # what is doubted was wrong for a moment only

    def doubt(self, index: int) -> None:
        self._doubted.append(index)
        if self.mends:
            self._record.wrong = None
        self._news.set()

    async def events(self) -> AsyncIterator[FetchEvent]:
        for index in range(PIECES):
            yield PieceDone(index, {})
        while self._record.wrong is not None or self._doubted:
            await self._news.wait()
            self._news = anyio.Event()
            yield StartedOver()
            while self._doubted:
                yield PieceDone(self._doubted.pop(), {})
        yield self._end


async def follow(record: Record, end: FetchEvent, *, mends: bool = True) -> bool:
    lane = SwarmLane(_any(record), Watch(None), Magnet(InfoHashes(v1="0" * 40)))
    fetch = Fetch(record, end)
    fetch.mends = mends
    with anyio.fail_after(10.0):  # a hang is a failure
        return await lane._follow(_any(fetch))


def _any(stand_in: object) -> Any:
    return stand_in


async def test_some_pieces_are_hashed_at_once_and_all_are_on_record_at_the_end() -> None:
    record = Record()
    assert await follow(record, Finished())
    assert record.done == set(range(PIECES))
    assert record.most == HASHED_AT_ONCE


async def test_a_fetch_that_fails_leaves_no_piece_unrecorded_that_came_before() -> None:
    record = Record()
    with pytest.raises(TransferFailed, match="no data"):
        await follow(record, FetchFailed("no data", "stalled"))
    assert record.done == set(range(PIECES))


async def test_a_piece_that_is_read_otherwise_than_it_was_checked_is_asked_for_again() -> None:
    record = Record(wrong=1)
    assert await follow(record, Finished())
    assert record.done == set(range(PIECES))
    assert record.lied_to


async def test_a_piece_that_stays_wrong_ends_the_lane_by_its_own_error() -> None:
    with pytest.raises(VerificationFailed):
        await follow(Record(wrong=1), Finished(), mends=False)
