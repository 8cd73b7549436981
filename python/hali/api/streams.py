"""Replies that are written while they are made, in whichever dialect."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hali.api.problems import body_of, problem
from hali.api.replies import OpenReplies, while_connected
from hali.api.timing import last_comment
from hali.model.errors import HaliError
from hali.runtime.log import get_logger

log = get_logger(__name__)

SSE = "text/event-stream; charset=utf-8"


def openai_event(error: HaliError) -> bytes:
    """An error in the middle of an OpenAI stream."""
    return b"data: " + msgspec.json.encode(body_of(error)) + b"\n\n"


class EventStream(Response):
    """Events as they come. An error before the first is an HTTP error, one after it an event; then the stream ends.

    `failed` writes an error as an event, `refuse` as a whole answer; both in the dialect of the stream.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        replies: OpenReplies,
        *,
        failed: Callable[[HaliError], bytes] = openai_event,
        refuse: Callable[[HaliError], Response] = problem,
        media_type: str = SSE,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._events, self._replies = events, replies
        self._failed, self._refuse = failed, refuse
        self._comments = media_type == SSE
        # x-accel-buffering: a reverse proxy must not collect the tokens.
        self.init_headers({"content-type": media_type, "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the events until they end, the client leaves, or the daemon stops."""
        writer = _Writer(send, self.raw_headers)

        async def work() -> None:
            async with aclosing(self._events):
                async for data in self._events:
                    await writer.write(data)

        try:
            await while_connected(receive, self._replies, work)
        except ClientDisconnect:
            log.debug("api.client_left", path=repr(scope["path"]))
            return
        except HaliError as error:
            if not writer.started:
                await self._refuse(error)(scope, receive, send)
                return
            await writer.write(self._failed(error))
        if self._comments and (comment := last_comment()):
            await writer.write(comment)
        await writer.end()


class _Writer:
    """The body of a streamed answer; its head goes out with the first data."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.started = False

    async def write(self, data: bytes) -> None:
        """Send `data` at once."""
        await self._begin()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """No more data; there may have been none at all."""
        await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> None:
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
