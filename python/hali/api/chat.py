"""POST /v1/chat/completions."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hali.api.base import ApiDeps, ApiKey
from hali.api.bodies import read_json
from hali.api.gate import KEY
from hali.api.openai_chat import ChatRequest, generate_request
from hali.api.openai_reply import Frame, completion, completion_events
from hali.api.problems import json_response
from hali.api.replies import while_connected
from hali.api.routes import SSE, Endpoint
from hali.api.streams import EventStream


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


ROUTES = (
    Endpoint(
        "/v1/chat/completions",
        chat_completions,
        methods=("POST",),
        summary="The model's turn in a chat",
        tag="openai",
        request=ChatRequest,
        stream=SSE,
    ),
)
