"""uvicorn's HTTP/1.1 protocol with deadlines and a cap on connections, which it lacks: unfinished requests were never evicted
(measured: 10,000 connections that drip headers, none gone after 120 s).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import partial
from typing import ClassVar, Literal

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from hali.api.base import ApiLimits
from hali.api.connections import Connections, Evictions, Slot
from hali.api.dashboard_routes import SOCKET
from hali.api.dashboard_socket import SocketProtocol
from hali.api.dialects import dialect_of
from hali.api.gate import RESERVED
from hali.api.heads import holding_heads
from hali.api.problems import OPENAI, SECURITY_HEADERS, Dialect
from hali.model.errors import UsageError
from hali.runtime.log import get_logger

log = get_logger(__name__)

Phase = Literal["headers", "body", "idle", "other"]

# Of a reply that nobody reads: what asyncio holds beyond that, the reply's maker waits. Times `ApiLimits.connections` this
# must stay small, and tokens come in tens of bytes.
WRITE_BUFFER = 16 * 1024
SEND_BUFFER = 64 * 1024  # of the kernel, which would grow it to 4 MB for each reader that lags


class GuardedProtocol(H11Protocol):
    """One connection; evicted when headers, body or a lagging reader take longer than allowed, or others need its place."""

    limits: ClassVar[ApiLimits]
    open: ClassVar[Connections[GuardedProtocol]]
    evictions: ClassVar[Evictions]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a slot, of somebody who keeps us waiting if need be, or close at once."""
        super().connection_made(transport)
        self.transport = holding_heads(transport, self.loop)
        self._phase: Phase = "other"
        self._upgraded = False  # a WebSocket now
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._received = self._unread = 0  # bytes since the phase began; buffered when the reader began to lag
        # What a reader that lags must take, bytes in so many seconds.
        self._must_read = (int(self.limits.write_s * self.limits.write_rate), self.limits.write_s)
        self._address = self.client[0] if self.client else ""
        if (other := self.open.gives_way(self._address)) is not None:
            other.evict("gave way")
        self._slot: Slot = self.open.enter(self._address)
        if self._slot == "none":
            self._tell("refused")
            transport.abort()
            return
        if self._slot == "reserved":
            self.app_state = {**self.app_state, RESERVED: True}
        _bound_buffers(transport)
        self._enter("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        self.leave()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Give the place back; once more does nothing."""
        if self._slot != "none":
            self._slot = "none"
            self.open.leave(self, self._address)
        _stop(self._read_timer)
        _stop(self._write_timer)

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came."""
        self._received += len(data)
        super().data_received(data)

    def handle_events(self) -> None:
        """Called after all input and after each reply: see which part of a request is awaited now."""
        super().handle_events()
        phase = self._awaited()
        if phase != self._phase:
            self._enter(phase)

    def _awaited(self) -> Phase:
        state = self.conn.their_state
        if self._upgraded:
            return "other"  # h11 never saw the end of the handshake's body
        if state is h11.SEND_BODY:
            return "body"
        if state is not h11.IDLE:
            return "other"
        # Between two requests uvicorn's keep-alive timer runs; with the first byte of the next one its header time
        # begins.
        return "headers" if self._phase == "headers" or self.conn.trailing_data[0] else "idle"

    def _enter(self, phase: Phase) -> None:
        if self._slot == "none":
            return
        self._phase, self._received = phase, 0
        _stop(self._read_timer)
        if phase in ("headers", "body"):
            seconds = self.limits.header_s if phase == "headers" else self.limits.body_s
            self._read_timer = self.loop.call_later(seconds, self._check_sender)
        self._settle()

    def _settle(self) -> None:
        """Keep the order in which clients began to owe us something."""
        if self._phase == "other" and self._write_timer is None:
            self.open.owes_nothing(self)
        else:
            self.open.owes(self, self._address)

    def _check_sender(self) -> None:
        """Headers are small and have their time; a body has more while it comes in earnest."""
        if self._phase == "body" and self._received >= self.limits.body_s * self.limits.body_rate:
            self._received = 0
            self._read_timer = self.loop.call_later(self.limits.body_s, self._check_sender)
        else:
            self.evict(f"slow {self._phase}")

    def pause_writing(self) -> None:
        """The reader lags."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """It took what was there."""
        _stop(self._write_timer)
        self._write_timer = None
        if self._slot != "none":
            self.open.lags(self, 0)
            self._settle()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """What is still buffered must go out in time too, or the connection would stay for ever."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        if self._write_timer is None and self._slot != "none":
            self._unread = self.transport.get_write_buffer_size()
            self._write_timer = self.loop.call_later(self._must_read[1], self._check_reader)
            self.open.lags(self, self._unread)
            self._settle()
        while (other := self.open.holds_too_much()) is not None:
            other.evict("unread replies")

    def _check_reader(self) -> None:
        """Whoever takes a little in each span may take long in all: a whole reply ends, a stream is small."""
        self._write_timer = None
        self.open.lags(self, 0)
        left = self.transport.get_write_buffer_size()
        if left and self._unread - left < self._must_read[0]:
            self.evict("slow reader")
        elif left:
            self._await_reader()
        else:
            self._settle()

    def evict(self, reason: str) -> None:
        """Close now; the place is free on return."""
        self._tell(reason)
        self.leave()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:  # a reset: the kernel would keep what was not read for minutes
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()  # not close: that would wait for the reader

    def _tell(self, reason: str) -> None:
        if counts := self.evictions.add(reason, self.loop.time()):
            log.info("api.evicted", address=self._address, **{name.replace(" ", "_"): n for name, n in counts.items()})

    def _should_upgrade_to_ws(self) -> bool:
        """One path is a WebSocket."""
        return bool(self.scope["path"] == SOCKET and self.scope["method"] == "GET")

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection goes on in this slot; it owes us nothing but that it reads."""
        self._upgraded = True
        self._enter("other")
        # It may be slow, as it then is told less; it must not be frozen.
        self._must_read = (1, self.limits.socket_write_s)
        self.ws_protocol_class = partial(SocketProtocol, self)  # type: ignore[assignment]
        super().handle_websocket_upgrade(event)

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


def protocol(limits: ApiLimits, connections: Connections[GuardedProtocol]) -> type[GuardedProtocol]:
    """The protocol class for one server."""
    return type("ApiProtocol", (GuardedProtocol,), {"limits": limits, "open": connections, "evictions": Evictions()})


def _bound_buffers(transport: asyncio.Transport) -> None:
    transport.set_write_buffer_limits(high=WRITE_BUFFER)
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
