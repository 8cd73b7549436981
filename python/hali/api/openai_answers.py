"""From a request to its generations, and from what they make to a whole answer; the same for all of OpenAI's endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hali.api.base import ApiDeps, ApiKey
from hali.api.gate import KEY
from hali.api.openai_replies import Indexed, merged
from hali.api.problems import json_response
from hali.api.replies import while_connected
from hali.model.generation import GenerateRequest
from hali.pipeline.base import ServedModel


def share_of(request: Request) -> tuple[str | None, float]:
    """(owner, weight) of the key that came with the request: whose share of the queue it takes."""
    key: ApiKey | None = getattr(request.state, KEY)
    return (key.owner, key.weight) if key else (None, 1.0)


def generations(request: Request, model: ServedModel, asked: Sequence[GenerateRequest]) -> Indexed:
    """The events of all of `asked`; nothing runs before the first is awaited."""
    deps: ApiDeps = request.app.state.deps
    owner, weight = share_of(request)
    return merged([deps.router.generate(model, each, key=owner, weight=weight) for each in asked])


async def answer(request: Request, made: Callable[[], Awaitable[dict[str, Any]]]) -> Response:
    """The object that `made` returns, unless the client leaves meanwhile, which cancels it."""
    deps: ApiDeps = request.app.state.deps
    reply: dict[str, Any] = {}

    async def work() -> None:
        reply.update(await made())

    await while_connected(request.receive, deps.replies, work)
    return json_response(reply)
