"""uvicorn's HTTP/1.1 protocol with deadlines and a cap on connections, which it lacks: unfinished requests were never
evicted
(measured: 10,000 connections that drip headers, none gone after 120 s).
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Literal

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from hali.api.base import ApiLimits
from hali.api.connections import Connections
from hali.api.dialects import dialect_of
from hali.api.gate import RESERVED
from hali.api.problems import OPENAI, SECURITY_HEADERS, Dialect
from hali.model.errors import UsageError
from hali.runtime.log import get_logger

log = get_logger(__name__)

Phase = Literal["headers", "body", "other"]


class GuardedProtocol(H11Protocol):
    """One connection; evicted when headers, body or a lagging reader take longer than allowed."""

    limits: ClassVar[ApiLimits]
    open: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a slot, or close at once."""
        super().connection_made(transport)
        self._phase: Phase = "other"
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._address = self.client[0] if self.client else ""
        self._slot = self.open.enter(self._address)
        if self._slot == "none":
            log.info("api.connection_refused", address=self._address)
            transport.abort()
            return
        if self._slot == "reserved":
            self.app_state = {**self.app_state, RESERVED: True}
        self._enter("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        if self._slot != "none":
            self.open.leave(self._address)
        _stop(self._read_timer)
        _stop(self._write_timer)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Called after all input and after each reply: see which part of a request is awaited now."""
        super().handle_events()
        phase = self._awaited()
        if phase != self._phase:
            self._enter(phase)

    def _awaited(self) -> Phase:
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return "body"
        if state is not h11.IDLE:
            return "other"
        # Between two requests uvicorn's keep-alive timer runs; with the first byte of the next one its header time
        # begins.
        return "headers" if self._phase == "headers" or self.conn.trailing_data[0] else "other"

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        _stop(self._read_timer)
        if phase != "other":
            seconds = self.limits.header_s if phase == "headers" else self.limits.body_s
            self._read_timer = self.loop.call_later(seconds, self._evict, f"slow {phase}")

    def pause_writing(self) -> None:
        """The reader lags: it has `write_s` to take what is buffered."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """It did."""
        _stop(self._write_timer)
        self._write_timer = None
        super().resume_writing()

    def on_response_complete(self) -> None:
        """What is still buffered must go out in time too, or the connection would stay for ever."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_s, self._check_reader)

    def _check_reader(self) -> None:
        self._write_timer = None
        if self.transport.get_write_buffer_size():
            self._evict("slow reader")

    def _evict(self, reason: str) -> None:
        log.info("api.evicted", address=self._address, reason=reason)
        self.transport.abort()  # not close: that would wait for the reader

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that is not offered is ignored (RFC 9110, 7.8). No warning: strangers could fill the log."""

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP get the same body and headers as every other error, in the words of the API in use."""
        body = msgspec.json.encode(self._dialect().body(UsageError(msg, code="invalid_http")))
        head = [b"HTTP/1.1 400 Bad Request", b"content-type: application/json", b"connection: close"]
        head += [b"content-length: %d" % len(body), *(name + b": " + value for name, value in SECURITY_HEADERS)]
        self.transport.write(b"\r\n".join([*head, b"", body]))
        self.transport.close()

    def _dialect(self) -> Dialect:
        """Of the request whose body broke; a head that cannot be read names no path."""
        if self.cycle is None or self.cycle.response_complete:
            return OPENAI
        return dialect_of(self.cycle.scope["path"], self.cycle.scope["headers"])


def protocol(limits: ApiLimits, connections: Connections) -> type[GuardedProtocol]:
    """The protocol class for one server."""
    return type("ApiProtocol", (GuardedProtocol,), {"limits": limits, "open": connections})


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
