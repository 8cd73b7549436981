"""One open dashboard: everything the daemon tells, as JSON text frames; what the client cannot take in time it is told to have missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.abc
import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from hali.api.dashboard_base import Dashboard, Part, Sample
from hali.model.activity import ActivityEvent
from hali.runtime.channels import Lagged, Subscription

POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1
CHECK_S = 1.0  # whether the key is still good


class DashboardSession:
    """Four tasks that write to one socket; each waits while the socket is full, so nothing piles up but what the bus bounds."""

    def __init__(self, socket: WebSocket, dashboard: Dashboard, allowed: Callable[[], bool]) -> None:
        self._socket, self._dashboard, self._allowed = socket, dashboard, allowed

    async def run(self) -> None:
        """Until the client leaves, says something, or may not look any more."""
        await self._socket.accept()
        activity = self._dashboard.activity
        with self._dashboard.viewing(), activity.events.subscribe(replay=True) as events:
            before = activity.seq
            code = await self._until_over(events, before)
        if code is not None:
            await self._socket.close(code)

    async def _until_over(self, events: Subscription[ActivityEvent], before: int) -> int | None:
        """The code to close with; None where the client has gone."""
        code: int | None = None

        async def end(why: Callable[[], Any]) -> None:
            nonlocal code
            code = await why()
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(end, self._left)
                group.start_soon(end, self._forbidden)
                await self._send({"t": "hello", **self._dashboard.hello()})
                group.start_soon(self._tell_events, events, before)
                group.start_soon(self._tell_parts)
                group.start_soon(self._tell_rates)
        except* WebSocketDisconnect:  # seen by whoever wrote last
            code = None
        return code

    async def _left(self) -> int | None:
        """A dashboard has nothing to say: who does is not one."""
        message = await self._socket.receive()
        return None if message["type"] == "websocket.disconnect" else POLICY_VIOLATION

    async def _forbidden(self) -> int:
        while True:
            if not self._allowed():
                return POLICY_VIOLATION
            await anyio.sleep(CHECK_S)

    async def _tell_events(self, events: Subscription[ActivityEvent], before: int) -> None:
        async for event in events:
            if isinstance(event, Lagged):
                await self._send({"t": "lagged", "missed": event.missed})
            else:
                await self._send({"t": "activity", "replay": event.seq <= before, "event": event})

    async def _tell_parts(self) -> None:
        """Each part when it is newer than what was sent; whoever is slow gets the newest, the longest unsent first."""
        sent: dict[str, int] = {}
        while True:
            part = stalest(self._dashboard.parts.value.values(), sent)
            if part is None:
                await self._dashboard.parts.changed()
                continue
            sent[part.name] = part.version
            await self._send({"t": "part", "name": part.name, "value": part.value})

    async def _tell_rates(self) -> None:
        """All samples there are, then each new one."""
        samples = self._dashboard.rates.value
        await self._send({"t": "part", "name": "rates", "value": samples})
        while True:
            told = samples[-1].ts if samples else 0.0
            samples = await self._dashboard.rates.changed()
            for sample in newer(samples, told):
                await self._send({"t": "rate", "value": sample})

    async def _send(self, frame: dict[str, Any]) -> None:
        await self._socket.send_text(msgspec.json.encode(frame).decode())


def stalest(parts: Any, sent: dict[str, int]) -> Part | None:
    """Of the parts that have a newer version than was sent, the one whose last sending is longest ago; None if there is none."""
    waiting = [part for part in parts if sent.get(part.name, -1) != part.version]
    return min(waiting, key=lambda part: sent.get(part.name, -1), default=None)


def newer(samples: Any, than: float) -> list[Sample]:
    """Those after the time `than`."""
    return [sample for sample in samples if sample.ts > than]
