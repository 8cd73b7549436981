"""What transfers are allowed just now: the configured caps, changed by the weekly schedule, overridden by a person."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, tzinfo
from typing import Literal

import anyio
import anyio.abc
import msgspec

from hali.config.schedule import Rule, Schedule
from hali.runtime.channels import Watch
from hali.runtime.clock import local_zone
from hali.runtime.log import get_logger
from hali.transfer.gate import Gate
from hali.transfer.throttle import Caps

log = get_logger(__name__)

LOOK_S = 60.0  # the wall clock may be set meanwhile, so that a long wait for a moment on it is cut into minutes


class Order(msgspec.Struct, frozen=True):
    """What a person ordered, and until when (Unix time; None = until another order). Kept across restarts."""

    paused: bool
    given: float
    until: float | None = None
    timed: bool = False  # a duration, measured by the monotonic clock; else it lasts until the schedule's next change


class Allowance(msgspec.Struct, frozen=True):
    """What holds now."""

    caps: Caps
    paused: bool = False
    until: float | None = None  # Unix time at which the pause ends by itself, if it does
    by: Literal["user", "schedule"] | None = None  # who paused


def decide(caps: Caps, rule: Rule | None, rule_until: float | None, order: Order | None) -> Allowance:
    """The allowance from the configured `caps`, the schedule's rule (in force until `rule_until`) and a person's order."""
    if rule is not None:
        caps = Caps(
            upload_mbps=caps.upload_mbps if rule.up is None else rule.up,
            download_mbps=caps.download_mbps if rule.down is None else rule.down,
        )
    if order is not None:
        return Allowance(caps, paused=True, until=order.until, by="user") if order.paused else Allowance(caps)
    if rule is not None and rule.pause:
        return Allowance(caps, paused=True, until=rule_until, by="schedule")
    return Allowance(caps)


class Regulator:
    """The service that applies the schedule at its minutes. `gate` is shut during a pause, from the first moment on.

    `kept` is the order of an earlier life, as `keep` was given it; `apply` is called with each new allowance.
    """

    def __init__(
        self,
        caps: Caps,
        schedule: Schedule,
        *,
        kept: str | None,
        keep: Callable[[str], Awaitable[None]],
        apply: Callable[[Allowance], None],
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        zone: Callable[[], tzinfo] = local_zone,
    ) -> None:
        self._caps, self._schedule, self._keep, self._apply = caps, schedule, keep, apply
        self._wall, self._monotonic, self._zone = wall, monotonic, zone
        self._deadline: float | None = None  # of a timed order, monotonic
        self._order = self._remembered(kept)
        self._kick = anyio.Event()
        self.now: Watch[Allowance] = Watch(self._decide())
        self.gate = Gate(is_open=not self.now.value.paused)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        task_status.started()
        while True:
            self._update()
            self._kick = anyio.Event()
            with anyio.move_on_after(self._wait()):
                await self._kick.wait()

    # ---- what a person orders

    async def pause(self, seconds: float | None = None) -> Allowance:
        """Stop all transfers, for `seconds` or until `resume` or the schedule's next change; in force and on record on return."""
        return await self._obey(Order(True, self._wall()), seconds)

    async def resume(self) -> Allowance:
        """Go on, also against the schedule until its next change."""
        rule, _ = self._scheduled()
        scheduled_pause = rule is not None and rule.pause
        return await self._obey(Order(False, self._wall()) if scheduled_pause else None, None)

    def configure(self, caps: Caps, schedule: Schedule) -> None:
        """Other settings, at once. A timed order lasts; another one until the next change of the new schedule."""
        self._caps, self._schedule = caps, schedule
        if self._order is not None and not self._order.timed:
            self._order = msgspec.structs.replace(self._order, until=self._next_change())
        self._update()

    async def _obey(self, order: Order | None, seconds: float | None) -> Allowance:
        self._deadline = None
        if order is not None and seconds is not None:
            self._deadline = self._monotonic() + seconds
            order = msgspec.structs.replace(order, until=order.given + seconds, timed=True)
        elif order is not None:
            order = msgspec.structs.replace(order, until=self._next_change())
        self._order = order
        self._update()
        await self._keep(msgspec.json.encode(order).decode())
        return self.now.value

    def _remembered(self, text: str | None) -> Order | None:
        """An order whose time is over is none. The rest of a duration is never longer than the whole, whatever the clock says."""
        order = msgspec.json.decode(text, type=Order | None) if text else None
        if order is None or order.until is None:
            return order
        left = min(order.until - self._wall(), order.until - order.given)
        if left <= 0:
            return None
        if order.timed:
            self._deadline = self._monotonic() + left
        return order

    # ---- what holds

    def _update(self) -> None:
        """Bring everything to what holds now."""
        if self._is_over():
            self._order = self._deadline = None
        before, allowance = self.now.value, self._decide()
        if allowance != before:
            log.info(
                "transfers.allowed", paused=allowance.paused, by=allowance.by, caps=msgspec.to_builtins(allowance.caps)
            )
            self.now.set(allowance)
            (self.gate.shut if allowance.paused else self.gate.open)()
            self._apply(allowance)
        self._kick.set()

    def _is_over(self) -> bool:
        """Whether the order has lapsed. It stays on record: an order whose time is over is none there either."""
        if self._order is None or self._order.until is None:
            return False
        if self._deadline is not None:
            return self._monotonic() >= self._deadline
        return self._wall() >= self._order.until

    def _decide(self) -> Allowance:
        rule, until = self._scheduled()
        return decide(self._caps, rule, until, self._order)

    def _scheduled(self) -> tuple[Rule | None, float | None]:
        rule = self._schedule.at(datetime.fromtimestamp(self._wall(), self._zone()))
        return rule, self._next_change() if rule is not None and rule.pause else None

    def _next_change(self) -> float | None:
        moment = self._schedule.next_change(datetime.fromtimestamp(self._wall(), UTC), self._zone())
        return None if moment is None else moment.timestamp()

    def _wait(self) -> float:
        """Seconds until something may change by itself."""
        ends = [] if self._deadline is None else [self._deadline - self._monotonic()]
        if (change := self._next_change()) is not None:
            ends.append(change - self._wall())
        return min([LOOK_S, *(max(0.0, end) for end in ends)])
