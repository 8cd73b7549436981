"""One file from every source at once: lanes run side by side, any may die, the last one takes the pull with it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import anyio
import anyio.abc
import msgspec

from hali.model.errors import HaliError, NoSpace, TransferFailed
from hali.runtime.groups import first_error
from hali.runtime.log import get_logger
from hali.share.division import Speed
from hali.share.intake import Disagreement, Intake
from hali.share.part import NoSuchPart
from hali.share.range_lane import RangeLane
from hali.share.swarm_lane import SwarmLane

log = get_logger(__name__)

MEASURE_S = 0.5  # people read no faster; and a piece of 16 MiB takes longer on most links
SMOOTH = 0.5  # weight of the newest half second in a speed
SILENT_S = 3.0  # without a byte from it, a swarm is not counted on
TOLD_WAIT_S = 2.0  # a shorter one is over before anybody wonders
RETRY_S = 20.0  # before a source that failed is tried again while others go on
LAST_WORD_S = 3.0  # for the swarm's own end after the last piece: it may still learn the torrent's piece layers


class Lane(Protocol):
    """One kind of source."""

    kind: str

    async def run(self) -> None:
        """Feed the intake until nothing is missing; raises when this source cannot go on."""


class Rate(msgspec.Struct, frozen=True):
    """What a transfer tells about itself while it runs; None is unknown."""

    bytes_per_second: float | None = None
    peers: int | None = None
    waits_s: float | None = None  # as a server asked, and nothing comes from elsewhere


class Download:
    """Runs the lanes of one intake. `heard` counts bytes of HTTP as they come."""

    def __init__(self, name: str, intake: Intake, report: Callable[[Rate], None]) -> None:
        self._name, self._intake, self._report = name, intake, report
        self._lanes: list[Lane] = []
        self._failures: dict[Lane, HaliError] = {}
        self._beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._heard = 0
        self._ended: dict[Lane, anyio.Event] = {}
        self._group: anyio.abc.TaskGroup | None = None

    def heard(self, count: int) -> None:
        """`count` more bytes of HTTP came."""
        self._heard += count

    def add(self, lane: Lane) -> None:
        """One more source, also while the others run."""
        self._lanes.append(lane)
        self._ended[lane] = anyio.Event()
        if self._group is not None:
            self._group.start_soon(self._keep, lane)

    def beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` as long as the download runs."""
        self._beside.append(work)

    async def run(self) -> None:
        """Until every piece is on record; else the error of the last source, naming what was tried."""
        if not self._swarms():  # then there is nothing to measure before all connections are used
            self._intake.measured(Speed(swarm=0.0))
        try:
            async with anyio.create_task_group() as self._group:
                for lane in self._lanes:
                    self._group.start_soon(self._keep, lane)
                for work in (self._measure, *self._beside):
                    self._group.start_soon(work)
                await self._intake.complete.wait()
                await self._last_word()
                self._group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        finally:
            self._group = None

    async def _last_word(self) -> None:
        if self._intake.part is not None:  # the swarm goes on for what is not wanted
            return
        with anyio.move_on_after(LAST_WORD_S):
            for lane in self._lanes:
                if isinstance(lane, SwarmLane) and lane.pulse is not None:
                    await self._ended[lane].wait()

    async def _keep(self, lane: Lane) -> None:
        """Run a lane, and again some time after it failed, as long as another one goes on."""
        while True:
            try:
                await lane.run()
                self._ended[lane].set()
                return
            except HaliError as exc:
                if self._is_final(exc):
                    raise
                self._fail(lane, exc)
                if not exc.retryable:
                    return
            await anyio.sleep(RETRY_S)
            self._failures.pop(lane, None)
            self._ended[lane] = anyio.Event()

    def _is_final(self, error: HaliError) -> bool:
        """Whether no other source can help. Of a part, no SHA-256 of the whole will tell who of two that disagree is right."""
        if isinstance(error, Disagreement):
            return self._intake.part is not None
        return isinstance(error, (NoSpace, NoSuchPart))

    def _fail(self, lane: Lane, error: HaliError) -> None:
        log.warning("pull.source_failed", model=self._name, source=lane.kind, error=str(error))
        self._failures[lane] = error
        self._ended[lane].set()
        self._tell_swarms()
        if any(other not in self._failures for other in self._lanes if self._has_hope(other)):
            return
        raise _all_failed(self._name, list(self._failures.values()))

    def _tell_swarms(self) -> None:
        """Swarms are patient as long as a source of another kind goes on."""
        others = any(not isinstance(lane, SwarmLane) and lane not in self._failures for lane in self._lanes)
        for swarm in self._swarms():
            swarm.be_patient(others and self._intake.is_open)

    def _has_hope(self, lane: Lane) -> bool:
        """An address that a magnet names is of no use before the swarm has told what to ask it for."""
        return self._intake.is_open or isinstance(lane, SwarmLane)

    async def _measure(self) -> None:
        shown: float | None = None
        http: float | None = None
        swarm: float | None = None
        silent, came, before = 0.0, 0.0, self._heard
        while True:
            both = (shown or 0.0) + (swarm or 0.0)
            self._report(Rate(both or None, self._peers(), self._waits_s() if came == 0 and not swarm else None))
            await anyio.sleep(MEASURE_S)
            came, before = (self._heard - before) / MEASURE_S, self._heard
            shown = _smoothed(shown, came)
            if self._intake.division.claims:  # one that has nothing to do is as fast as it was
                http = _smoothed(http, came)
            pulse = next((lane.pulse for lane in self._lanes if isinstance(lane, SwarmLane) and lane.pulse), None)
            rate = pulse.rate if pulse is not None else 0.0
            silent = 0.0 if rate else silent + MEASURE_S
            swarm = rate if rate else 0.0 if silent >= SILENT_S or not self._swarms() else None
            self._intake.measured(Speed(http=http, swarm=swarm))
            self._tell_swarms()

    def _waits_s(self) -> float | None:
        waits = max((lane.waits_s for lane in self._lanes if isinstance(lane, RangeLane)), default=0.0)
        return round(waits, 1) if waits >= TOLD_WAIT_S else None

    def _swarms(self) -> list[SwarmLane]:
        return [lane for lane in self._lanes if isinstance(lane, SwarmLane) and lane not in self._failures]

    def _peers(self) -> int | None:
        pulses = [lane.pulse for lane in self._swarms()]
        return next((pulse.peers for pulse in pulses if pulse is not None), None)


def _smoothed(old: float | None, new: float) -> float | None:
    """None until something came."""
    return new or None if old is None else (1 - SMOOTH) * old + SMOOTH * new


def _all_failed(name: str, errors: Sequence[HaliError]) -> HaliError:
    """The only error as it is; of several one that names them all, or what needs another try without the swarm."""
    if len(errors) == 1:
        return errors[0]
    disagreement = next((e for e in errors if isinstance(e, Disagreement)), None)
    if disagreement is not None:
        return disagreement
    tried = [error.message for error in errors]
    return TransferFailed(f"{name}: {'; then '.join(tried)}", hint=errors[-1].hint, details={"tried": tried})
