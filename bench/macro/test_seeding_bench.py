"""P3: from the last byte of a download to `seeding`, for any size of file, against hashing it when it is there.

The last piece is one of 16 MiB, the most that can be left to do. By HTTP the clock starts when hali is given it, so that
writing it counts; by torrent when libtorrent has written it. The rival reads holes, which is faster than any disk.
`seconds` pairs the two, as one pair of medians where the rival, which takes minutes for 100 GB, has fewer rounds.
`milliseconds` are all of hali's rounds; `flatness` is their median by that of the smallest size in the run. The table that
pytest-benchmark prints counts more: by torrent also the fetch of the piece.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import get_args

import anyio.from_thread
import pytest
from anyio.from_thread import BlockingPortal
from pytest_benchmark.fixture import BenchmarkFixture

from bench.macro.last_bytes import Took
from bench.macro.last_piece import Download, Way, download
from bench.versus import SHORT
from hali.model.ids import InfoHashes
from hali.model.units import PIECE

PIECES = {1: 60, 10: 600, 100: 6000}  # by GB (of 10⁹ bytes, and 0.7 % more), so that the last piece is a whole one
SIZES = [1] if SHORT else [1, 10, 100]
ROUNDS = {1: 7, 10: 5, 100: 5}
RIVAL_ROUNDS = {1: 7, 10: 2, 100: 1}  # the first is the one that prepares the download; both ways share it
RIVAL = "hash after download"
LIMIT_MS = 100

_medians: dict[tuple[Way, int], float] = {}  # seconds by way and GB, of what this run has measured


class Prepared:
    """A download that lacks its last piece. `first` is the rival's round that made it so."""

    def __init__(self, portal: BlockingPortal, made: Download, gigabytes: int) -> None:
        self._portal, self._made, self.gigabytes = portal, made, gigabytes
        self.torrents: set[InfoHashes] = set()
        made.create()
        self.first = self.hash_after()
        portal.call(made.prepare)

    def hash_after(self) -> Took:
        """A round of the rival."""
        took = self._portal.call(self._made.hash_after)
        self.after()
        return took

    def begin(self, way: Way) -> None:
        """Before a round of hali."""
        self._portal.call(self._made.begin, way)

    def finish(self, way: Way) -> Took:
        """A round of hali."""
        return self._portal.call(self._made.finish, way)

    def after(self) -> None:
        """See that a round ended well, and take the model back."""
        self.torrents.add(self._portal.call(self._made.check))
        self._portal.call(self._made.take_back)


@pytest.fixture(scope="module", params=SIZES)
def prepared(request: pytest.FixtureRequest) -> Iterator[Prepared]:
    """A download in a folder of its own; nothing of it is left behind."""
    with (
        tempfile.TemporaryDirectory(prefix="hali-bench-") as folder,
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(download(Path(folder), PIECES[request.param])) as made,
    ):
        yield Prepared(portal, made, request.param)


@pytest.mark.parametrize("way", get_args(Way))
def test_from_the_last_byte_to_seeding(benchmark: BenchmarkFixture, prepared: Prepared, way: Way) -> None:
    gigabytes = prepared.gigabytes
    ours: list[Took] = []
    theirs = [prepared.first.wall]

    def before() -> None:
        if ours and len(theirs) < RIVAL_ROUNDS[gigabytes]:
            theirs.append(prepared.hash_after().wall)
        prepared.begin(way)

    benchmark.group = f"P3 {gigabytes} GB by {way}"
    benchmark.pedantic(
        lambda: ours.append(prepared.finish(way)), setup=before, teardown=prepared.after, rounds=ROUNDS[gigabytes]
    )
    assert len(prepared.torrents) == 1, "all ways end with the same torrent"
    walls = [took.wall for took in ours]
    paired = len(walls) == len(theirs)
    _medians[way, gigabytes] = median(walls)
    benchmark.extra_info.update(
        row="P3",
        case=f"{gigabytes} GB by {way}",
        size=PIECES[gigabytes] * PIECE,
        seconds={"hali": walls, RIVAL: theirs} if paired else {"hali": [median(walls)], RIVAL: [median(theirs)]},
        milliseconds=[round(1e3 * wall, 1) for wall in walls],
        cpu_milliseconds=[round(1e3 * took.cpu, 1) for took in ours],
        limit_ms=LIMIT_MS,
        flatness=round(median(walls) / _medians[way, min(SIZES)], 2) if (way, min(SIZES)) in _medians else None,
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )
