"""uvicorn's HTTP/1.1 protocol with a deadline for each request and a cap on connections, which it lacks.

The API has a richer one (`hali/api/http.py`); packages of one level do not see each other, and a registry needs only this.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from hali.registry.bounds import Bounds, network
from hali.runtime.log import get_logger

log = get_logger(__name__)


class TimedProtocol(H11Protocol):
    """One connection; evicted when a request is not complete, or an answer not taken, in time."""

    bounds: ClassVar[Bounds]
    open: ClassVar[Counter[str]]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection in, or close it at once."""
        super().connection_made(transport)
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._from = network(self.client[0] if self.client else "", 32, 64)
        full = self.open.total() >= self.bounds.connections or self.open[self._from] >= self.bounds.per_address
        self._counted = not full
        if full:
            transport.abort()
            return
        self.open[self._from] += 1
        self._watch_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        if self._counted:
            self.open[self._from] -= 1
            if not self.open[self._from]:
                del self.open[self._from]
        for timer in (self._request_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Called after all input and after each reply: a request under way has its deadline, a complete one none."""
        super().handle_events()
        state = self.conn.their_state
        awaited = state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))
        if not awaited and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
        elif awaited and self._request_timer is None:
            self._watch_request()

    def _watch_request(self) -> None:
        self._request_timer = self.loop.call_later(self.bounds.request_s, self._evict, "slow request")

    def pause_writing(self) -> None:
        """The reader lags: it has `write_s` to take what is buffered."""
        super().pause_writing()
        self._await_reader()

    def on_response_complete(self) -> None:
        """What is still buffered must go out in time too."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(self.bounds.write_s, self._check_reader)

    def _check_reader(self) -> None:
        self._answer_timer = None
        if self.transport.get_write_buffer_size():
            self._evict("slow reader")

    def _evict(self, reason: str) -> None:
        log.info("registry.evicted", address=self._from, reason=reason)
        self.transport.abort()  # not close: that would wait for the reader

    def _unsupported_upgrade_warning(self) -> None:
        """No warning: strangers could fill the log."""


def protocol(bounds: Bounds) -> type[TimedProtocol]:
    """The protocol class for one server."""
    return type("RegistryProtocol", (TimedProtocol,), {"bounds": bounds, "open": Counter()})
