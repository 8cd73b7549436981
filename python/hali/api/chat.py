"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hali.api.base import ApiDeps, ApiKey
from hali.api.bodies import read_json
from hali.api.gate import KEY
from hali.api.openai_chat import ChatRequest, generate_request
from hali.api.openai_reply import Frame, completion, completion_events, event
from hali.api.problems import body_of, json_response, problem
from hali.api.replies import OpenReplies, while_connected
from hali.model.errors import HaliError
from hali.runtime.log import get_logger

log = get_logger(__name__)


async def chat_completions(request: Request) -> Response:
    """One reply, whole or streamed; the generation ends when the client leaves."""
    deps: ApiDeps = request.app.state.deps
    body = await read_json(request, ChatRequest, deps.limits.body_bytes)
    asked = generate_request(body)
    model = deps.catalog.find(body.model)
    key: ApiKey | None = getattr(request.state, KEY)
    owner, weight = (key.owner, key.weight) if key else (None, 1.0)
    events, frame = deps.router.generate(model, asked, key=owner, weight=weight), Frame.new(model)
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(completion_events(events, frame, include_usage=include_usage), deps.replies)
    reply: dict[str, Any] = {}

    async def work() -> None:
        reply.update(await completion(events, frame))

    await while_connected(request.receive, deps.replies, work)
    return json_response(reply)


class EventStream(Response):
    """Server-sent events. An error before the first is an HTTP error, one after it an event; then the stream ends."""

    def __init__(self, events: AsyncGenerator[bytes, None], replies: OpenReplies) -> None:
        self.status_code = 200
        self.background = None
        self._events = events
        self._replies = replies
        # x-accel-buffering: a reverse proxy must not collect the tokens.
        self.init_headers({"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"})

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
                await problem(error)(scope, receive, send)
                return
            await writer.write(event(body_of(error)))
        await writer.end()


class _Writer:
    """The body of a streamed answer; its head goes out with the first data."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.started = False

    async def write(self, data: bytes) -> None:
        """Send `data` at once."""
        if not self.started:
            self.started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """No more data."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
