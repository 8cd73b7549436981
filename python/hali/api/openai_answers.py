"""From a request to its generations, and from what they make to a whole answer; the same for all of OpenAI's endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hali.api.asking import generated, waited
from hali.api.metered import reserve
from hali.api.openai_replies import Indexed, merged
from hali.api.problems import json_response
from hali.model.generation import GenerateRequest
from hali.pipeline.base import ServedModel


def generations(request: Request, model: ServedModel, asked: Sequence[GenerateRequest]) -> Indexed:
    """The events of all of `asked`; nothing runs before the first is awaited. `Overloaded` if the key's tokens are used up."""
    reserve(asked)
    return merged([generated(request, model, each) for each in asked])


async def answer(request: Request, made: Callable[[], Awaitable[dict[str, Any]]]) -> Response:
    """The object that `made` returns, unless the client leaves meanwhile, which cancels it."""
    return json_response(await waited(request, made))
