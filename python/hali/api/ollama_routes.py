"""Ollama's API where a model answers: chat, generate, embed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from hali.api.asking import answered, deps_of, generated, holds, must_hold, store_of, waited
from hali.api.bodies import read_json
from hali.api.dialects import OLLAMA, OllamaError
from hali.api.ollama_keep import Stay, stay_of
from hali.api.ollama_names import find
from hali.api.ollama_prompt import chat_request, generate_request
from hali.api.ollama_reply import Line, Shape, encoded, failed, reply_lines, rfc3339, whole
from hali.api.ollama_request import ChatBody, EmbedBody, EmbeddingsBody, GenerateBody, Generation
from hali.api.ollama_shapes import ChatReply, EmbeddingsReply, EmbedReply, GenerateReply
from hali.api.openai_embedding import MAX_INPUTS
from hali.api.problems import json_response, problem
from hali.api.refusals import invalid
from hali.api.routes import NDJSON, Endpoint, Handler
from hali.api.streams import EventStream
from hali.api.vectors import numbers, shortened
from hali.model.generation import Embed, Embeddings, GenerateRequest
from hali.pipeline.base import ServedModel

MAX_VECTORS = (
    64 * 1024 * 1024
)  # bytes of one answer, as of the largest that the engine gives at once; as JSON 8 times that


async def chat(request: Request) -> Response:
    """The model's turn. Without messages the model is only loaded, or with `keep_alive` 0 unloaded."""
    body = await read_json(request, ChatBody, deps_of(request).limits.body_bytes)
    model = find(body.model, deps_of(request).catalog.find)
    if not body.messages:
        return await _kept(request, model, body, "chat")
    return await _reply(request, model, body, chat_request(body), "chat")


async def generate(request: Request) -> Response:
    """The answer to a prompt. Without one the model is only loaded, or with `keep_alive` 0 unloaded."""
    body = await read_json(request, GenerateBody, deps_of(request).limits.body_bytes)
    model = find(body.model, deps_of(request).catalog.find)
    if not (body.prompt or body.images):
        return await _kept(request, model, body, "generate")
    return await _reply(request, model, body, generate_request(body), "generate")


async def _reply(
    request: Request, model: ServedModel, body: Generation, asked: GenerateRequest, shape: Shape
) -> Response:
    keep = _keeping(request, model, stay_of(body.keep_alive))
    lines = reply_lines(generated(request, model, asked), body.model, shape, thoughts=body.think is not False)
    if keep is not None:
        lines = _then_kept(lines, keep)
    if body.stream is not False:
        refuse = partial(problem, dialect=OLLAMA)
        return EventStream(encoded(lines), deps_of(request).replies, failed=failed, refuse=refuse, media_type=NDJSON)

    async def collected() -> Line:
        async with aclosing(lines):
            return await whole(lines, shape)

    return json_response(await waited(request, collected))


def _keeping(request: Request, model: ServedModel, stay: Stay | None) -> Callable[[], None] | None:
    """What tells the model's engine how long to stay; None where nothing was asked, or by a key that may not."""
    if stay is None or deps_of(request).models is None or not holds(request, "manage"):
        return None
    return partial(store_of(request).keep, model, stay.seconds)


async def _then_kept(lines: AsyncGenerator[Line, None], keep: Callable[[], None]) -> AsyncGenerator[Line, None]:
    """When the reply is made, how long the model stays is told to its engine, which runs by then."""
    async with aclosing(lines):
        async for line in lines:
            if line["done"]:
                keep()
            yield line


async def _kept(request: Request, model: ServedModel, body: Generation, shape: Shape) -> Response:
    """Load or unload, and say so."""
    gone = await _load_or_unload(request, model, stay_of(body.keep_alive))
    said = {"message": {"role": "assistant", "content": ""}} if shape == "chat" else {"response": ""}
    head = {"model": body.model, "created_at": rfc3339(time.time()), **said}
    return json_response({**head, "done": True, "done_reason": "unload" if gone else "load"})


async def _load_or_unload(request: Request, model: ServedModel, stay: Stay | None) -> bool:
    """Whether it was unloaded. To load is what any request does; to unload needs a key that may, as others may be about to ask."""
    if stay is not None and stay.ends:
        must_hold(request, "manage")
        await waited(request, partial(store_of(request).unload, model))
        return True
    await waited(request, partial(store_of(request).load, model))
    if (keep := _keeping(request, model, stay)) is not None:
        keep()
    return False


# ---- embeddings


async def embed(request: Request) -> Response:
    """Vectors of length 1. Without a text the model is only loaded, or with `keep_alive` 0 unloaded."""
    began = time.monotonic()
    body = await read_json(request, EmbedBody, deps_of(request).limits.body_bytes)
    model = find(body.model, deps_of(request).catalog.find)
    texts = tuple(filter(None, (body.input,))) if isinstance(body.input, str) else tuple(body.input)
    found = await _vectors(request, model, Embed(texts), stay_of(body.keep_alive))
    return json_response(
        {
            "model": body.model,
            "embeddings": [_floats(vector, body.dimensions) for vector in found.vectors],
            "total_duration": round((time.monotonic() - began) * 1e9),
            "prompt_eval_count": found.prompt_tokens,
        }
    )


async def embeddings(request: Request) -> Response:
    """One vector as the model made it. Without a text the model is only loaded, or with `keep_alive` 0 unloaded."""
    body = await read_json(request, EmbeddingsBody, deps_of(request).limits.body_bytes)
    model = find(body.model, deps_of(request).catalog.find)
    asked = Embed((body.prompt,) if body.prompt else (), normalize=False)
    found = await _vectors(request, model, asked, stay_of(body.keep_alive))
    return json_response({"embedding": _floats(found.vectors[0]) if found.vectors else []})


async def _vectors(request: Request, model: ServedModel, asked: Embed, stay: Stay | None) -> Embeddings:
    """What was asked, and then how long the model stays; no text loads or unloads it."""
    if not asked.inputs:
        await _load_or_unload(request, model, stay)
        return Embeddings((), 0)
    found = await _computed(request, model, asked)
    if (keep := _keeping(request, model, stay)) is not None:
        keep()
    return found


async def _computed(request: Request, model: ServedModel, asked: Embed) -> Embeddings:
    """Ollama knows no most inputs, so they are as many questions as the engine needs."""
    vectors: list[bytes] = []
    tokens = 0
    for first in range(0, len(asked.inputs), MAX_INPUTS):
        some = Embed(asked.inputs[first : first + MAX_INPUTS], asked.normalize, first)
        found = await answered(request, model, some, Embeddings)
        vectors += found.vectors
        tokens += found.prompt_tokens
        _check_answer(len(asked.inputs), vectors)
    return Embeddings(tuple(vectors), tokens)


def _check_answer(count: int, vectors: list[bytes]) -> None:
    """`UsageError` if `count` vectors like these are more than one answer holds."""
    if count > MAX_INPUTS and vectors and (most := MAX_VECTORS // len(vectors[0])) < count:
        raise invalid(
            "input", f"{count} texts; one answer of this model holds the vectors of {most}: send fewer at once"
        )


def _floats(vector: bytes, dimensions: int | None = None) -> list[float]:
    found = numbers(vector)
    return (found if dimensions is None else shortened(found, dimensions)).tolist()


def _post(path: str, handler: Handler, summary: str, body: type, said: type, stream: str | None = None) -> Endpoint:
    return Endpoint(
        path,
        handler,
        methods=("POST",),
        summary=summary,
        tag="ollama",
        request=body,
        response=said,
        stream=stream,
        error=OllamaError,
    )


ROUTES = (
    _post("/api/chat", chat, "The model's turn in a chat", ChatBody, ChatReply, NDJSON),
    _post("/api/generate", generate, "The answer to a prompt", GenerateBody, GenerateReply, NDJSON),
    _post("/api/embed", embed, "Vectors that stand for texts", EmbedBody, EmbedReply),
    _post("/api/embeddings", embeddings, "One vector that stands for a text", EmbeddingsBody, EmbeddingsReply),
)
