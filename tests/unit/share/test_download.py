"""How a download begins, before anything could be measured."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from hali.share.division import AT_ONCE, Division, Speed
from hali.share.download import Download
from hali.share.intake import Intake

pytestmark = pytest.mark.anyio


class _Intake:
    """What a download needs of an intake."""

    part = None
    is_open = True

    def __init__(self) -> None:
        self.complete = anyio.Event()
        self.speed = Speed()

    def measured(self, speed: Speed) -> None:
        self.speed = speed


class _Lane:
    """HTTP: claims pieces of a file of eight until it is told to wait, and so ends the download."""

    kind = "http"

    def __init__(self, intake: _Intake) -> None:
        self._intake, self.claims = intake, list[int]()

    async def run(self) -> None:
        division = Division(range(8))
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
