"""P3: from the last byte of a download to `seeding`, for any size of file, against hashing it when it is there.

Each size is measured with a last piece of 16 MiB, the most that can be left to do: writing it counts too. The rival reads
holes, which is faster than any disk. `seconds` pairs the two; of 100 GB the rival takes more than a minute, so there it
has one round, beside the median of hali's. `milliseconds` are all of hali's rounds; `flatness` is their median by that of
the smallest size in the run.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import anyio.from_thread
import pytest
from anyio.from_thread import BlockingPortal
from pytest_benchmark.fixture import BenchmarkFixture

from bench.macro.last_piece import Download, Took, download
from bench.versus import SHORT
from hali.model.ids import InfoHashes
from hali.model.units import PIECE

PIECES = {1: 60, 10: 600, 100: 6000}  # by GB (of 10⁹ bytes, and 0.7 % more), so that the last piece is a whole one
SIZES = [1] if SHORT else [1, 10, 100]
ROUNDS = {1: 7, 10: 5, 100: 5}
RIVAL_ROUNDS = {1: 7, 10: 3, 100: 1}
RIVAL = "hash after download"
LIMIT_MS = 100

_medians: dict[int, float] = {}  # milliseconds by GB, of the sizes that this run has measured


class Rounds:
    """hali and its rival in turn on one prepared download."""

    def __init__(self, portal: BlockingPortal, made: Download, rival_rounds: int) -> None:
        self._portal, self._made, self._rival_rounds = portal, made, rival_rounds
        self.ours: list[Took] = []
        self.theirs: list[Took] = []
        self.torrents: set[InfoHashes] = set()

    def prepare(self) -> None:
        """The rival's first round, which also tells the SHA-256 that a hub would have published; then the download."""
        self._made.create()
        self._rival()
        self._portal.call(self._made.prepare)

    def before(self) -> None:
        """A turn of the rival, and a download that waits for its last piece."""
        if self.ours and len(self.theirs) < self._rival_rounds:
            self._rival()
        self._portal.call(self._made.begin)

    def hali(self) -> None:
        """hali's turn."""
        self.ours.append(self._portal.call(self._made.finish))

    def after(self) -> None:
        """See that it ended well, and take the model back."""
        self.torrents.add(self._portal.call(self._made.check))
        self._portal.call(self._made.take_back)

    def _rival(self) -> None:
        self.theirs.append(self._portal.call(self._made.hash_after))
        self.after()


@contextmanager
def rounds_of(gigabytes: int) -> Iterator[Rounds]:
    """A prepared download in a folder of its own; nothing of it is left behind."""
    with (
        tempfile.TemporaryDirectory(prefix="hali-bench-") as folder,
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(download(Path(folder), PIECES[gigabytes])) as made,
    ):
        rounds = Rounds(portal, made, RIVAL_ROUNDS[gigabytes])
        rounds.prepare()
        yield rounds


@pytest.mark.parametrize("gigabytes", SIZES)
def test_from_the_last_byte_to_seeding(benchmark: BenchmarkFixture, gigabytes: int) -> None:
    benchmark.group = f"P3 {gigabytes} GB"
    with rounds_of(gigabytes) as rounds:
        benchmark.pedantic(rounds.hali, setup=rounds.before, teardown=rounds.after, rounds=ROUNDS[gigabytes])
        ours, theirs = [took.wall for took in rounds.ours], [took.wall for took in rounds.theirs]
    assert len(rounds.torrents) == 1, "both ways end with the same torrent"
    _medians[gigabytes] = 1e3 * median(ours)
    benchmark.extra_info.update(
        row="P3",
        case=f"{gigabytes} GB",
        size=PIECES[gigabytes] * PIECE,
        seconds={"hali": ours[: len(theirs)] if len(theirs) > 1 else [median(ours)], RIVAL: theirs},
        milliseconds=[round(1e3 * each, 1) for each in ours],
        cpu_milliseconds=[round(1e3 * took.cpu, 1) for took in rounds.ours],
        limit_ms=LIMIT_MS,
        flatness=round(_medians[gigabytes] / _medians[min(_medians)], 2),
        peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )
