"""How a download begins, before anything could be measured, and what it measures."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from hali.runtime.channels import Watch
from hali.share import download as download_module
from hali.share.division import AT_ONCE, Division, Speed
from hali.share.download import Download, Rate
from hali.share.intake import Intake
from hali.share.range_lane import RangeLane

pytestmark = pytest.mark.anyio


class _Intake:
    """What a download needs of an intake."""

    part = None
    is_open = True

    def __init__(self) -> None:
        self.complete = anyio.Event()
        self.speed = Speed()
        self.division = Division(range(8))
        self.looks = Watch(0)

    def measured(self, speed: Speed) -> None:
        self.speed = speed
        self.looks.set(self.looks.value + 1)


class _Lane:
    """HTTP: claims pieces of a file of eight until it is told to wait, and so ends the download."""

    kind = "http"

    def __init__(self, intake: _Intake) -> None:
        self._intake, self.claims = intake, list[int]()

    async def run(self) -> None:
        division = self._intake.division
        while (index := division.claim(0.0, self._intake.speed, ())) is not None:
            self.claims.append(index)
        self._intake.complete.set()


async def test_without_a_swarm_all_connections_are_busy_from_the_first_moment() -> None:
    """Beside a swarm HTTP has an eighth of the pieces until both are measured, here one, for half a second."""
    intake = _Intake()
    lane = _Lane(intake)
    download = Download("model", cast("Intake", intake), lambda rate: None)
    download.add(cast("Any", lane))
    await download.run()
    assert lane.claims == list(range(AT_ONCE))


class _Waiting(RangeLane):
    """HTTP whose server asked to be left alone."""

    kind, waits_s = "http", 30.0

    def __init__(self) -> None:
        """Without an intake: it claims nothing."""

    async def run(self) -> None:
        await anyio.sleep_forever()


async def test_who_watches_is_told_that_a_server_wants_to_be_left_alone_but_not_while_something_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download_module, "MEASURE_S", 0.001)
    intake, told = _Intake(), list[Rate]()

    def report(rate: Rate) -> None:
        told.append(rate)
        if len(told) == 1:
            download.heard(1000)
        if len(told) == 3:
            intake.complete.set()

    download = Download("model", cast("Intake", intake), report)
    download.add(_Waiting())
    await download.run()
    assert [rate.waits_s for rate in told] == [30.0, None, 30.0]


class _Resting:
    """HTTP: brings one piece, then has to wait for pieces that the swarm has begun."""

    kind = "http"

    def __init__(self, intake: _Intake) -> None:
        self._intake = intake
        self.before: float | None = None
        self.heard = lambda count: None

    async def run(self) -> None:
        looks = self._intake.looks
        self._intake.division.claims[0] = 0.0
        first = looks.value
        await looks.until(lambda count: count > first)
        self.heard(1_000_000)
        await looks.until(lambda count: self._intake.speed.http is not None)
        self.before = self._intake.speed.http
        self._intake.division.done(0)
        rested = looks.value + 20
        await looks.until(lambda count: count > rested)
        self._intake.division.claims[1] = 0.0
        again = looks.value
        await looks.until(lambda count: count > again)
        self._intake.complete.set()


async def test_http_that_waits_for_the_swarm_is_taken_for_as_fast_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its speed would fade with its rest, faster than that of a swarm that is gone, and it would never be let in again."""
    monkeypatch.setattr(download_module, "MEASURE_S", 0.001)
    intake = _Intake()
    lane = _Resting(intake)
    download = Download("model", cast("Intake", intake), lambda rate: None)
    lane.heard = download.heard
    download.add(cast("Any", lane))
    await download.run()
    assert lane.before and intake.speed.http
    assert intake.speed.http > lane.before / 2**8  # it fades by half with each look that falls into a claim, and few do
