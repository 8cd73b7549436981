"""/v1/responses: made, kept, fetched, cancelled, deleted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hali.api.asking import answered as answered_by
from hali.api.asking import deps_of, key_of
from hali.api.base import ApiDeps
from hali.api.bodies import read_json
from hali.api.endings import unfinished
from hali.api.openai_answers import answer, generations
from hali.api.openai_items import Item, answered, as_objects, items_of, references
from hali.api.openai_replies import Indexed
from hali.api.openai_response_shapes import InputTokenCount, ItemPage, ResponseDeleted, ResponseObject
from hali.api.openai_response_writer import ResponseWriter
from hali.api.openai_responses import ResponsesRequest, response_head, response_request
from hali.api.problems import json_response
from hali.api.refusals import invalid
from hali.api.response_jobs import Job
from hali.api.response_store import Stored
from hali.api.routes import SSE, Endpoint
from hali.api.streams import EventStream
from hali.model.errors import HaliError, NotFound, Overloaded, UsageError
from hali.model.generation import Render, Tokens

MAX_PAGE = 100  # OpenAI's limit of items in one answer
DEFAULT_PAGE = 20


async def create(request: Request) -> Response:
    """One response: whole, streamed, or made in the background while the client goes."""
    deps = deps_of(request)
    body = await read_json(request, ResponsesRequest, deps.limits.body_bytes)
    items = _conversation(request, body)
    asked = response_request(body, items)
    model = deps.catalog.find(body.model)
    writer = ResponseWriter(response_head(body, model.id))
    stored = Stored(key_of(request), writer, items)
    events = generations(request, model, [asked])
    if body.background:
        return _in_background(deps, stored, events, stream=bool(body.stream))

    def keep() -> None:
        if body.store is not False:
            deps.responses.keep(stored)

    if body.stream:
        return EventStream(_stream(events, writer, keep), deps.replies, failed=_failing(writer, keep))
    return await answer(request, lambda: _whole(events, writer, keep))


async def count_input(request: Request) -> Response:
    """How many tokens the same body would send to the model."""
    deps = deps_of(request)
    body = await read_json(request, ResponsesRequest, deps.limits.body_bytes)
    asked = response_request(body, _conversation(request, body))
    prompt = await answered_by(request, deps.catalog.find(body.model), Render(asked), Tokens)
    return json_response({"object": "response.input_tokens", "input_tokens": len(prompt.tokens)})


def _conversation(request: Request, body: ResponsesRequest) -> tuple[Item, ...]:
    """What is to be answered. With all before it, it is no longer than one request could be: each kept one has all of it."""
    deps = deps_of(request)
    before = _before(request, body)
    kept = deps.responses.items(references(body.input), key_of(request))
    items = (*before, *items_of(body.input, before, kept))
    most = deps.limits.body_bytes
    if (before or kept) and len(msgspec.json.encode(items)) > most:
        raise UsageError(
            f"the conversation has become longer than {most} bytes: begin a new one, without what was kept of this",
            code="body_too_large",
            details={"param": "previous_response_id" if before else "input"},
        )
    return items


def _before(request: Request, body: ResponsesRequest) -> tuple[Item, ...]:
    """The conversation that this request goes on from."""
    if body.previous_response_id is None:
        return ()
    deps = deps_of(request)
    try:
        previous = deps.responses.get(body.previous_response_id, key_of(request))
    except NotFound as missing:
        where = {"param": "previous_response_id"}
        raise UsageError(str(missing), code="previous_response_not_found", details=where) from None
    if not previous.writer.ended:
        raise invalid("previous_response_id", "this response is still being made")
    return (*previous.items, *answered(previous.writer.response["output"]))


def _in_background(deps: ApiDeps, stored: Stored, events: Indexed, *, stream: bool) -> Response:
    stored.job = job = Job(stored.writer)
    job.begin()
    deps.responses.admit(stored)
    try:
        deps.background.start(job, events, lambda: deps.responses.settle(stored))
    except Overloaded:
        deps.responses.delete(stored.id, stored.owner)
        raise
    return EventStream(job.follow(), deps.replies) if stream else json_response(stored.writer.response)


async def _whole(events: Indexed, writer: ResponseWriter, keep: Callable[[], None]) -> dict[str, Any]:
    async with aclosing(events):
        async for _, event in events:
            writer.take(event)
    if not writer.ended:
        raise unfinished()
    keep()
    return writer.response


async def _stream(events: Indexed, writer: ResponseWriter, keep: Callable[[], None]) -> AsyncGenerator[bytes, None]:
    """Nothing before the engine's first event, so that an early failure still can have an HTTP status."""
    begun = False
    async with aclosing(events):
        async for _, event in events:
            if not begun:
                begun = True
                yield writer.begin()
            data = writer.take(event)
            if writer.ended:  # whoever reads the last event may ask for more at once
                keep()
            if data:
                yield data
    if not writer.ended:
        raise unfinished()


def _failing(writer: ResponseWriter, keep: Callable[[], None]) -> Callable[[HaliError], bytes]:
    def failed(error: HaliError) -> bytes:
        data = writer.fail(error)
        keep()
        return data

    return failed


async def retrieve(request: Request) -> Response:
    """A response that was kept; `stream=true` follows one that is being made, after event `starting_after`."""
    deps = deps_of(request)
    stored = _stored(request)
    if request.query_params.get("stream", "false") != "true":
        return json_response(stored.writer.response)
    if stored.job is None:
        raise invalid("stream", "only responses made in the background can be followed")
    after = _number(request, "starting_after", -1, least=-1)
    return EventStream(stored.job.follow(after), deps.replies)


async def cancel(request: Request) -> Response:
    """End a response that is being made in the background."""
    stored = _stored(request)
    if stored.job is None:
        raise UsageError("only responses made in the background can be cancelled", code="invalid_value")
    stored.job.cancel()
    return json_response(stored.writer.response)


async def delete(request: Request) -> Response:
    """Forget a response."""
    deps = deps_of(request)
    name = request.path_params["response_id"]
    deps.responses.delete(name, key_of(request))
    return json_response({"id": name, "object": "response", "deleted": True})


async def input_items(request: Request) -> Response:
    """What a response answered, the conversation before it included; the newest first unless `order=asc`."""
    items = as_objects(_stored(request).items)
    if (order := request.query_params.get("order", "desc")) not in ("asc", "desc"):
        raise invalid("order", "must be asc or desc")
    if order == "desc":
        items.reverse()
    if after := request.query_params.get("after"):
        names = [item["id"] for item in items]
        if after not in names:
            raise invalid("after", "is no item of this response")
        items = items[names.index(after) + 1 :]
    page = items[: _number(request, "limit", DEFAULT_PAGE, least=1, most=MAX_PAGE)]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    listed = {"object": "list", "data": page, "first_id": first, "last_id": last}
    return json_response({**listed, "has_more": len(page) < len(items)})


def _stored(request: Request) -> Stored:
    deps = deps_of(request)
    return deps.responses.get(request.path_params["response_id"], key_of(request))


def _number(request: Request, name: str, default: int, *, least: int, most: int = 2**31) -> int:
    """A number of the query; `UsageError` outside of its bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
        raise invalid(name, f"must be a number, {max(least, 0)} to {most}")
    return int(text[:12])


_ONE = "/v1/responses/{response_id}"
ROUTES = (
    Endpoint(
        "/v1/responses",
        create,
        methods=("POST",),
        summary="The model's answer, kept for later requests unless `store` is false",
        tag="openai",
        request=ResponsesRequest,
        response=ResponseObject,
        stream=SSE,
    ),
    Endpoint(
        "/v1/responses/input_tokens",
        count_input,
        methods=("POST",),
        summary="How many tokens a response's input has",
        tag="openai",
        request=ResponsesRequest,
        response=InputTokenCount,
    ),
    Endpoint(
        _ONE,
        retrieve,
        summary="A response that was kept",
        tag="openai",
        response=ResponseObject,
        stream=SSE,
        query=("stream", "starting_after"),
    ),
    Endpoint(_ONE, delete, methods=("DELETE",), summary="Forget a response", tag="openai", response=ResponseDeleted),
    Endpoint(
        f"{_ONE}/cancel",
        cancel,
        methods=("POST",),
        summary="End a response in the background",
        tag="openai",
        response=ResponseObject,
    ),
    Endpoint(
        f"{_ONE}/input_items",
        input_items,
        summary="What a response answered",
        tag="openai",
        response=ItemPage,
        query=("limit", "order", "after"),
    ),
)
