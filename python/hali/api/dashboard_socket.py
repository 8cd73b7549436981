"""uvicorn's WebSocket protocol in the slot of the HTTP connection that it was, so that caps and write deadlines go on to hold."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PING_S = 20.0  # below the minute after which proxies and NAT drop what is silent
PONG_S = 30.0  # as long as a reader may take nothing
MESSAGE_BYTES = 1024  # clients have nothing to say
HANDSHAKE_S = 5.0  # it needs no network
LAST_WORDS_S = 1.0  # for the closing frame to go out at shutdown


class Slot(Protocol):
    """The HTTP connection that a WebSocket came from: it keeps the place and watches the reader."""

    def pause_writing(self) -> None:
        """The reader lags."""

    def resume_writing(self) -> None:
        """It took what was there."""

    def evict(self, reason: str) -> None:
        """Close now."""

    def send_400_response(self, msg: str) -> None:
        """Answer that it is no request, and close."""

    def leave(self) -> None:
        """Give the place back."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One open WebSocket. Nothing is read while the client does not read: its pings would fill our memory with pongs."""

    def __init__(self, slot: Slot, **given: Any) -> None:
        super().__init__(**given)
        self._slot = slot

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is there as a whole; whatever becomes of it, it is over in time."""
        super().connection_made(transport)
        self.loop.call_later(HANDSHAKE_S, self._check_handshake)

    def _check_handshake(self) -> None:
        if not self.handshake_complete:
            self._slot.evict("no handshake")

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came. A handshake that cannot be read (a body, too long a line) uvicorn would leave unanswered for ever."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._slot.send_400_response("This is no handshake of a WebSocket.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        self._slot.leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The reader lags; from now on it has time to take something."""
        super().pause_writing()
        self.transport.pause_reading()
        self._slot.pause_writing()

    def resume_writing(self) -> None:
        """It took what was there."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()
        self._slot.resume_writing()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """What is still buffered must go out in time too, or the connection would stay for ever."""
        super().on_task_complete(task)
        if self.transport.get_write_buffer_size():
            self._slot.pause_writing()

    async def send(self, message: Any) -> None:
        """As uvicorn's, which takes a client that is going for one that is there, and logs each refusal as an error of ours."""
        await self.writable.wait()
        if self.transport.is_closing():
            self.handshake_complete = True  # or uvicorn would log that it is not
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # refused

    def keepalive_timeout(self) -> None:
        """No pong: a close frame would wait for the same reader."""
        self.pong_timer = None
        self._slot.evict("no pong")

    def shutdown(self) -> None:
        """The daemon stops. A frozen client must not hold it up."""
        super().shutdown()
        self.loop.call_later(LAST_WORDS_S, self.transport.abort)


def settings() -> dict[str, Any]:
    """How uvicorn is told of it."""
    return {
        "ws": SocketProtocol,
        "ws_max_size": MESSAGE_BYTES,
        "ws_ping_interval": PING_S,
        "ws_ping_timeout": PONG_S,
        "ws_per_message_deflate": False,  # compression beside secrets leaks them, and a window for each client is memory
    }
