"""Anthropic's API: messages, their tokens counted, and its list of models for clients that send `anthropic-version`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hali.api.anthropic_prompt import generate_request, thinks
from hali.api.anthropic_reply import Event, failed, message, message_events, sse
from hali.api.anthropic_request import Countable, MessagesRequest
from hali.api.anthropic_shapes import SaidMessage, TokenCount
from hali.api.asking import answered, deps_of, generated, waited
from hali.api.bodies import read_json
from hali.api.dialects import ANTHROPIC, VERSION_HEADER, AnthropicError
from hali.api.problems import json_response, problem
from hali.api.refusals import invalid
from hali.api.routes import SSE, Endpoint
from hali.api.streams import EventStream
from hali.model.errors import UsageError
from hali.model.generation import Render, Tokens
from hali.pipeline.base import ServedModel

PAGE, MAX_PAGE = 20, 1000  # Anthropic's own


async def messages(request: Request) -> Response:
    """The model's turn, whole or streamed; the generation ends when the client leaves."""
    deps = deps_of(request)
    body = await read_json(request, MessagesRequest, deps.limits.body_bytes)
    asked, model = generate_request(body), deps.catalog.find(body.model)
    events = message_events(generated(request, model, asked), model, thoughts=thinks(body))
    if body.stream:
        refuse = partial(problem, dialect=ANTHROPIC)
        return EventStream(_encoded(events), deps.replies, failed=failed, refuse=refuse)

    async def whole() -> Event:
        async with aclosing(events):
            return await message(events)

    return json_response(await waited(request, whole))


async def _encoded(events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            yield sse(event)


async def count_tokens(request: Request) -> Response:
    """How many tokens the prompt of a request would have, by the model's own template and vocabulary."""
    deps = deps_of(request)
    body = await read_json(request, Countable, deps.limits.body_bytes)
    asked, model = generate_request(body), deps.catalog.find(body.model)
    prompt = await answered(request, model, Render(asked), Tokens)
    return json_response({"input_tokens": len(prompt.tokens)})


# ---- models, at the same paths as OpenAI's


def is_anthropics(request: Request) -> bool:
    """The client is one of Anthropic's."""
    return VERSION_HEADER.decode() in request.headers


def models_page(request: Request) -> Response:
    """A page of the list, by `limit` and one of `after_id` and `before_id`."""
    query, every = request.query_params, [_model(model) for model in deps_of(request).catalog.list()]
    rows, more = _page(every, _limit(query.get("limit")), query.get("after_id"), query.get("before_id"))
    first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
    return json_response({"data": rows, "has_more": more, "first_id": first, "last_id": last})


def one_model(model: ServedModel) -> Response:
    """One of them."""
    return json_response(_model(model))


def _page(
    rows: list[dict[str, Any]], limit: int, after: str | None, before: str | None
) -> tuple[list[dict[str, Any]], bool]:
    """`limit` rows behind `after`, or just ahead of `before`; and whether there are more on that side."""
    ids = [row["id"] for row in rows]
    for name in (after, before):
        if name is not None and name not in ids:
            raise UsageError(f"no model {name[:80]!r} is in the list", code="invalid_value")
    if before is not None:
        ahead = rows[: ids.index(before)]
        return ahead[-limit:], len(ahead) > limit
    behind = rows if after is None else rows[ids.index(after) + 1 :]
    return behind[:limit], len(behind) > limit


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE):
        raise invalid("limit", f"a number from 1 to {MAX_PAGE}")
    return int(text)


def _model(model: ServedModel) -> dict[str, Any]:
    created = datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": created,
        "lifecycle": "active",
    }


ROUTES = (
    Endpoint(
        "/v1/messages",
        messages,
        methods=("POST",),
        summary="The model's turn in a conversation",
        tag="anthropic",
        request=MessagesRequest,
        response=SaidMessage,
        stream=SSE,
        error=AnthropicError,
    ),
    Endpoint(
        "/v1/messages/count_tokens",
        count_tokens,
        methods=("POST",),
        summary="How many tokens a prompt has",
        tag="anthropic",
        request=Countable,
        response=TokenCount,
        error=AnthropicError,
    ),
)
