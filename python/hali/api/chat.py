"""POST /v1/chat/completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hali.api.asking import deps_of
from hali.api.bodies import read_json
from hali.api.openai_answers import answer, generations
from hali.api.openai_chat import ChatRequest, generate_requests
from hali.api.openai_chat_reply import ChatShape
from hali.api.openai_reply import Frame
from hali.api.openai_shapes import ChatCompletion
from hali.api.routes import SSE, Endpoint
from hali.api.streams import EventStream


async def chat_completions(request: Request) -> Response:
    """One reply or several, whole or streamed; the generation ends when the client leaves."""
    deps = deps_of(request)
    body = await read_json(request, ChatRequest, deps.limits.body_bytes)
    asked = generate_requests(body)
    model = deps.catalog.find(body.model)
    shape = ChatShape(
        Frame.new(model, "chatcmpl-"),
        replies=len(asked),
        logprobs=bool(body.logprobs),
        functions=bool(body.functions),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )
    events = generations(request, model, asked)
    if body.stream:
        return EventStream(shape.stream(events), deps.replies)
    return await answer(request, lambda: shape.whole(events))


ROUTES = (
    Endpoint(
        "/v1/chat/completions",
        chat_completions,
        methods=("POST",),
        summary="The model's turn in a chat",
        tag="openai",
        request=ChatRequest,
        response=ChatCompletion,
        stream=SSE,
    ),
)
