"""Who may generate now: a fixed number of permits for each model, a fair bounded queue before them.

Every permit is given back.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from hali.model.errors import Overloaded
from hali.pipeline.fair import FairQueue
from hali.runtime.trace import stage

MEMORY = 0.8  # weight of the past in the mean service time: about the last ten requests count
MAX_RETRY_AFTER_S = 60  # a client told to wait longer would rather ask somebody else


class _Ticket:
    """One request in the queue."""

    def __init__(self) -> None:
        self.turn = anyio.Event()
        self.granted = False


class _Lane:
    """The permits and the queue of one model."""

    def __init__(self, permits: int, capacity: int, per_key: int) -> None:
        self.permits = permits
        self.running = 0
        self.queue: FairQueue[_Ticket] = FairQueue(capacity=capacity, per_key=per_key)
        self.mean_s: float | None = None

    def retry_after_s(self) -> int:
        """When a request refused now may find room: mean service time × requests before it / permits."""
        if self.mean_s is None:
            return 1
        return max(1, min(MAX_RETRY_AFTER_S, math.ceil(self.mean_s * (len(self.queue) + 1) / self.permits)))

    def took(self, seconds: float) -> None:
        """Learn from a finished request."""
        self.mean_s = seconds if self.mean_s is None else MEMORY * self.mean_s + (1 - MEMORY) * seconds


class Admission:
    """Permits for each lane (a model's SHA-256).

    A lane is kept once used: as many as the catalogue had models, a few bytes each.
    """

    def __init__(self, *, permits: int, queued: int, queued_per_key: int) -> None:
        self._sizes = (permits, queued, queued_per_key)
        self._lanes: dict[str, _Lane] = {}

    @property
    def running(self) -> int:
        """Permits held now, over all lanes."""
        return sum(lane.running for lane in self._lanes.values())

    @property
    def queued(self) -> int:
        """Requests waiting now, over all lanes."""
        return sum(len(lane.queue) for lane in self._lanes.values())

    @asynccontextmanager
    async def permit(self, name: str, *, key: str, weight: float, deadline: float) -> AsyncIterator[None]:
        """Hold a permit of lane `name`.

        `Overloaded` (with retry_after_s) when there is no room or no turn before `deadline`.
        """
        lane = self._lanes.setdefault(name, _Lane(*self._sizes))
        with stage("queue"):
            await self._enter(lane, key, weight, deadline)
        began = anyio.current_time()
        try:
            yield
        finally:
            lane.took(anyio.current_time() - began)
            self._leave(lane)

    async def _enter(self, lane: _Lane, key: str, weight: float, deadline: float) -> None:
        if lane.running < lane.permits and not len(lane.queue):
            lane.running += 1
            return
        ticket = _Ticket()
        try:
            lane.queue.push(key, ticket, weight=weight)
        except Overloaded as full:
            full.details["retry_after_s"] = lane.retry_after_s()
            raise
        await self._wait(lane, ticket, deadline)

    async def _wait(self, lane: _Lane, ticket: _Ticket, deadline: float) -> None:
        try:
            with anyio.CancelScope(deadline=deadline):
                await ticket.turn.wait()
        except BaseException:
            # Cancelled while waiting, or in the same instant in which the permit was handed over: it must not get lost.
            if ticket.granted:
                self._leave(lane)
            else:
                lane.queue.remove(ticket)
            raise
        if not ticket.granted:
            lane.queue.remove(ticket)
            raise Overloaded("no turn came before the deadline", details={"retry_after_s": lane.retry_after_s()})

    def _leave(self, lane: _Lane) -> None:
        """Hand the permit to whoever is next, so that no newcomer can take it in between."""
        successor = lane.queue.pop()
        if successor is None:
            lane.running -= 1
            return
        successor.granted = True
        successor.turn.set()
