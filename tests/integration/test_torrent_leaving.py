"""A fetch is left, or the session closed, in the middle: libtorrent may be hashing a piece of it just then, and would crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import libtorrent as lt
import pytest

from hali.model.units import MIB, PIECE
from hali.transfer import alerts
from hali.transfer.session import PieceDone, TorrentSession
from tests.fakes.torrents import Pair, Sample, events_of, local, make, two_sessions

pytestmark = pytest.mark.anyio

LOOKS = 4  # so often libtorrent is asked whether it still hashes


class Cache:
    """What libtorrent's disk cache is said to hold: something for a while, then nothing."""

    def __init__(self) -> None:
        self.asked = 0

    def stats(self, values: Mapping[str, int]) -> alerts.SessionStats:
        self.asked += 1
        return alerts.SessionStats(0, 0, 0, cached=int(self.asked < LOOKS))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Cache:
    cache = Cache()
    monkeypatch.setattr(alerts, "_session_stats", cache.stats)
    return cache


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make(tmp_path / "seed", 40 * MIB, PIECE)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with two_sessions() as sessions:
        yield sessions


async def until_a_piece(leecher: TorrentSession, sample: Sample, folder: Path, seeder: TorrentSession) -> None:
    """Fetch, and leave after the first piece."""
    folder.mkdir()
    async with leecher.fetch(sample.metainfo, folder, peers=local(seeder)) as fetch:
        async for event in fetch.events():
            if isinstance(event, PieceDone):
                return


async def test_a_torrent_is_removed_once_nothing_of_it_is_hashed_any_more(
    tmp_path: Path, sample: Sample, pair: Pair, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    asked: list[int] = []
    drop = leecher.drop

    async def watched(handle: lt.torrent_handle) -> None:
        asked.append(cache.asked)
        await drop(handle)

    monkeypatch.setattr(leecher, "drop", watched)

    await until_a_piece(leecher, sample, tmp_path / "left", seeder)

    assert asked == [LOOKS]


async def test_a_fetch_that_is_whole_does_not_wait(tmp_path: Path, sample: Sample, pair: Pair, cache: Cache) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)

    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
        await events_of(fetch)

    assert cache.asked == 0


async def test_a_session_closes_once_nothing_is_hashed_any_more(tmp_path: Path, sample: Sample, cache: Cache) -> None:
    began = anyio.Event()

    async def fetch(leecher: TorrentSession, seeder: TorrentSession) -> None:
        async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
            began.set()
            await events_of(fetch)

    async with anyio.create_task_group() as group:
        async with two_sessions() as (seeder, leecher):
            await seeder.seed(sample.metainfo.raw, sample.path.parent)
            leecher.set_rates(upload=0, download=MIB)
            group.start_soon(fetch, leecher, seeder)
            await began.wait()
        assert cache.asked == LOOKS
        group.cancel_scope.cancel()


@pytest.mark.long
async def test_many_fetches_are_left_after_their_first_piece(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    """One in forty ended the process (libtorrent 2.1.1)."""
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    for number in range(100):
        await until_a_piece(leecher, sample, tmp_path / str(number), seeder)
