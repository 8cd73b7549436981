"""What the dashboard shows: parts made of the CLI's own answers, once a second while somebody looks, and the rates of the last minutes."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import msgspec

from hali._version import __version__
from hali.api.dashboard_base import Part, Sample
from hali.daemon.dashboard_calls import Calls
from hali.daemon.dashboard_parts import PARTS, Builder
from hali.daemon.ipc import Handler
from hali.daemon.neighbour_telling import tell_neighbours
from hali.daemon.statistics import present_rates
from hali.model.errors import Failed, HaliError
from hali.runtime.channels import Lagged, Watch
from hali.runtime.log import get_logger

if TYPE_CHECKING:
    from hali.daemon.node import Node

log = get_logger(__name__)

EVERY_S = 1.0  # people read no faster
IDLE_S = 5.0  # between two samples of the rates while nobody looks: enough for a curve, and nothing for a CPU
SHOWN_S = 300.0  # of the rates
SLOW = 5  # ticks after which a part is built again though nobody said that it changed, as for a file that was edited


class DashboardFeed:
    """Implements `hali.api.dashboard_base.Dashboard`; also a service, which may be restarted as the same object."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.activity = node.activity
        self.parts: Watch[Mapping[str, Part]] = Watch({})
        self.rates: Watch[Sequence[Sample]] = Watch(())
        self._boot = uuid.uuid4().hex
        self._viewers = Watch(0)
        self._versions = 0
        self._told: set[str] = set()  # topics that changed since the last tick
        self._handlers: Mapping[str, Handler] = {}
        self._calls = Calls(node, self._handlers)

    def open(self, handlers: Mapping[str, Handler]) -> None:
        """The IPC's methods, which need the node and so come after it."""
        self._handlers, self._calls = handlers, Calls(self._node, handlers)

    def hello(self) -> dict[str, Any]:
        """Who tells; `boot` is another for each life of the daemon."""
        return {
            "version": __version__,
            "node": self._node.identity.node_id,
            "boot": self._boot,
            "now": time.time(),
        }

    @contextmanager
    def viewing(self) -> Iterator[None]:
        """Keep the parts up to date within the block."""
        self._viewers.set(self._viewers.value + 1)
        try:
            yield
        finally:
            self._viewers.set(self._viewers.value - 1)
            if not self._viewers.value:
                self.parts.set({})  # who comes later shall not see old ones

    async def call(self, method: str, params: dict[str, Any]) -> Mapping[str, Any]:
        """Do what a button says."""
        return await self._calls.call(method, params)

    # ---- the service

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Sample and build until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._sample)
            group.start_soon(self._listen)
            group.start_soon(self._build)
            group.start_soon(tell_neighbours, self._node.lan, self.activity)
            task_status.started()

    async def _sample(self) -> None:
        kept: deque[Sample] = deque(self.rates.value)
        while True:
            try:
                kept.append(Sample(time.time(), *await present_rates(self._node)))
            except HaliError as error:  # the torrent session is being restarted: the curve has a gap
                log.debug("dashboard.no_sample", error=str(error))
            else:
                _keep(kept, SHOWN_S)
                self.rates.set(tuple(kept))
            with anyio.move_on_after(IDLE_S):
                await self._viewers.until(bool)
                await anyio.sleep(EVERY_S)

    async def _listen(self) -> None:
        with self.activity.changes.subscribe() as changes:
            async for change in changes:
                self._told |= set(_TOPICS) if isinstance(change, Lagged) else {change.topic}

    async def _build(self) -> None:
        while True:
            await self._viewers.until(bool)
            for tick in range(SLOW):
                await self._refresh(everything=tick == 0 or not self.parts.value)
                await anyio.sleep(EVERY_S)
                if not self._viewers.value:
                    break

    async def _refresh(self, *, everything: bool) -> None:
        """Build what may have changed; publish what did."""
        told, self._told = self._told, set()
        parts = dict(self.parts.value)
        for name, builder in PARTS.items():
            if everything or builder.topic is None or builder.topic in told:
                value = await self._built(name, builder)
                if value is not None and (name not in parts or bytes(parts[name].value) != value):
                    self._versions += 1
                    parts[name] = Part(name, self._versions, msgspec.Raw(value))
        if self._viewers.value:
            self.parts.set(parts)

    async def _built(self, name: str, builder: Builder) -> bytes | None:
        """As JSON; None while it cannot be had, as in a moment when a service is restarted: the old value stays."""
        if not self._handlers:
            raise Failed("the dashboard was not opened")
        try:
            return msgspec.json.encode(await builder.build(self._node, self._handlers))
        except HaliError as error:
            log.debug("dashboard.part_missing", part=name, error=str(error))
            return None


def _keep(samples: deque[Sample], seconds: float) -> None:
    """Those of the last `seconds`; of a clock that was set back, none from the future."""
    while not samples[-1].ts - seconds <= samples[0].ts <= samples[-1].ts:
        samples.popleft()


_TOPICS = frozenset(builder.topic for builder in PARTS.values() if builder.topic is not None)
