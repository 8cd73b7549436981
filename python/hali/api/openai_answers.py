"""One way to answer all requests that generate: streamed as it is made, or whole at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hali.api.base import ApiDeps
from hali.api.problems import json_response
from hali.api.replies import while_connected


async def answer(request: Request, made: Callable[[], Awaitable[dict[str, Any]]]) -> Response:
    """The object that `made` returns, unless the client leaves meanwhile, which cancels it."""
    deps: ApiDeps = request.app.state.deps
    reply: dict[str, Any] = {}

    async def work() -> None:
        reply.update(await made())

    await while_connected(request.receive, deps.replies, work)
    return json_response(reply)
