"""POST /v1/completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hali.api.asking import answered, deps_of
from hali.api.bodies import read_json
from hali.api.openai_answers import answer, generations
from hali.api.openai_completion import CompletionRequest, Prompt, asked_prompts, completion_requests, tries_of
from hali.api.openai_completion_reply import CompletionShape
from hali.api.openai_reply import Frame
from hali.api.openai_shapes import TextCompletion
from hali.api.routes import SSE, Endpoint
from hali.api.streams import EventStream
from hali.model.generation import Detokenize, Text
from hali.pipeline.base import ServedModel


async def completions(request: Request) -> Response:
    """What follows each prompt, whole or streamed; the generation ends when the client leaves."""
    deps = deps_of(request)
    body = await read_json(request, CompletionRequest, deps.limits.body_bytes)
    asked, tries = completion_requests(body), tries_of(body)
    model = deps.catalog.find(body.model)
    prompts = asked_prompts(asked, tries)
    shape = CompletionShape(
        frame=Frame.new(model, "cmpl-"),
        echoes=await _echoes(request, model, prompts) if body.echo else ("",) * len(prompts),
        replies=body.n or 1,
        tries=tries,
        logprobs=body.logprobs is not None,
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )
    events = generations(request, model, asked)
    if body.stream:
        return EventStream(shape.stream(events), deps.replies)
    return await answer(request, lambda: shape.whole(events))


async def _echoes(request: Request, model: ServedModel, prompts: list[Prompt]) -> tuple[str, ...]:
    """The text of each prompt; the engine knows that of tokens."""
    texts = []
    for prompt in prompts:
        if isinstance(prompt, str):
            texts.append(prompt)
        else:
            texts.append((await answered(request, model, Detokenize(prompt), Text)).text)
    return tuple(texts)


ROUTES = (
    Endpoint(
        "/v1/completions",
        completions,
        methods=("POST",),
        summary="What follows a prompt",
        tag="openai",
        request=CompletionRequest,
        response=TextCompletion,
        stream=SSE,
    ),
)
