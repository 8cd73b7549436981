"""Ollama's API where models are listed, described, fetched and deleted."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hali._version import __version__
from hali.api.asking import deps_of, store_of, waited
from hali.api.base import LoadedModel, ModelDetails, PullProgress
from hali.api.bodies import read_json
from hali.api.dialects import OLLAMA, OllamaError
from hali.api.ollama_keep import FOREVER_S
from hali.api.ollama_names import find, plain
from hali.api.ollama_reply import Line, encoded, failed, rfc3339
from hali.api.ollama_request import Named, PullBody
from hali.api.ollama_shapes import ListedModels, PullEnd, RunningModels, ShownModel, Version
from hali.api.problems import json_response, problem
from hali.api.refusals import invalid
from hali.api.routes import NDJSON, Endpoint
from hali.api.streams import EventStream
from hali.model.names import ModelId, parse
from hali.pipeline.base import ServedModel


async def version(_: Request) -> Response:
    """Of hali, not of an Ollama."""
    return json_response({"version": __version__})


async def tags(request: Request) -> Response:
    """All models that can answer. Their details are those of their names: reading every header would take seconds."""
    return json_response({"models": [_row(model) for model in deps_of(request).catalog.list()]})


async def ps(request: Request) -> Response:
    """Models in memory."""
    return json_response({"models": [_loaded(each) for each in store_of(request).loaded()]})


async def show(request: Request) -> Response:
    """What the file of a model says about it."""
    body = await read_json(request, Named, deps_of(request).limits.body_bytes)
    model = find(_name(body), deps_of(request).catalog.find)
    details = await waited(request, partial(store_of(request).details, model))
    return json_response(
        {
            "modified_at": rfc3339(model.created),
            "modelfile": f"FROM {model.id}\n",
            "parameters": "",
            "template": details.chat_template or "",
            "license": details.license or "",
            "details": _details(model, details),
            "model_info": _info(details),
            "capabilities": _capabilities(details),
        }
    )


async def delete(request: Request) -> Response:
    """Delete a model, whole or damaged."""
    body = await read_json(request, Named, deps_of(request).limits.body_bytes)
    store = store_of(request)
    await store.remove(find(_name(body), store.known))
    return Response(status_code=200)


async def pull(request: Request) -> Response:
    """Fetch a model; the work goes on when the client leaves."""
    body = await read_json(request, PullBody, deps_of(request).limits.body_bytes)
    lines = pull_lines(store_of(request).pull(plain(_name(body))))
    if body.stream is not False:
        refuse = partial(problem, dialect=OLLAMA)
        return EventStream(encoded(lines), deps_of(request).replies, failed=failed, refuse=refuse, media_type=NDJSON)

    async def finished() -> Line:
        async with aclosing(lines):
            return [line async for line in lines][-1]

    return json_response(await waited(request, finished))


async def pull_lines(progress: AsyncGenerator[PullProgress, None]) -> AsyncGenerator[Line, None]:
    """Ollama's words; the last line is `success`."""
    async with aclosing(progress):
        async for each in progress:
            amount = {"total": each.total, "completed": each.done} if each.total is not None else {}
            yield {"status": f"{_WORDS.get(each.state, each.state)} {each.name}", **amount}
    yield {"status": "success"}


_WORDS = {"downloading": "pulling", "hashing": "verifying", "seeding": "sharing"}


def _name(body: Named) -> str:
    name = body.model or body.name
    if not name:
        raise invalid("model", "is missing")
    return name


# ---- shapes


def _row(model: ServedModel) -> Line:
    names = {"name": model.id, "model": model.id, "digest": model.sha256, "size": model.size}
    return {**names, "modified_at": rfc3339(model.created), "details": _details(model, ModelDetails())}


def _loaded(each: LoadedModel) -> Line:
    expires = time.time() + (FOREVER_S if each.expires_in_s is None else each.expires_in_s)  # clients want a time
    row = _row(each.model)
    del row["modified_at"]
    size = each.memory_bytes if each.memory_bytes is not None else each.model.size
    return {**row, "size": size, "size_vram": 0, "expires_at": rfc3339(expires), "context_length": each.context or 0}


def _details(model: ServedModel, details: ModelDetails) -> dict[str, Any]:
    name = parse(model.id) or ModelId("", "", "", "")
    family = details.architecture or name.base
    size = _parameters(details.parameters) if details.parameters else name.size.upper()
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": size,
        "quantization_level": details.quantization or name.quant.upper(),
    }


def _parameters(count: int) -> str:
    """`135M`, `8.0B`."""
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{round(count / 1e6)}M"


def _info(details: ModelDetails) -> dict[str, Any]:
    """The keys of the header that clients look for."""
    arch = details.architecture
    found = {
        "general.architecture": arch,
        "general.parameter_count": details.parameters,
        f"{arch}.block_count": details.layers,
        f"{arch}.context_length": details.context_length,
        f"{arch}.embedding_length": details.embedding_length,
    }
    return {name: value for name, value in found.items() if value}


def _capabilities(details: ModelDetails) -> list[str]:
    """Encoders only embed; a template that has a word for tools can pass them on."""
    if "bert" in details.architecture:
        return ["embedding"]
    template = details.chat_template or ""
    can = {
        "completion": True,
        "vision": details.vision,
        "tools": "tools" in template,
        "thinking": details.thinking,
    }
    return [name for name, has in can.items() if has]


def _endpoint(path: str, handler: Any, summary: str, **declared: Any) -> Endpoint:
    return Endpoint(path, handler, summary=summary, tag="ollama", error=OllamaError, **declared)


ROUTES = (
    _endpoint("/api/version", version, "The version of hali", response=Version),
    _endpoint("/api/tags", tags, "All models that can answer", response=ListedModels),
    _endpoint("/api/ps", ps, "Models in memory", response=RunningModels),
    _endpoint(
        "/api/show",
        show,
        "What the file of a model says about it",
        methods=("POST",),
        request=Named,
        response=ShownModel,
    ),
    _endpoint("/api/pull", pull, "Fetch a model", methods=("POST",), request=PullBody, response=PullEnd, stream=NDJSON),
    _endpoint("/api/delete", delete, "Delete a model", methods=("DELETE",), request=Named),
)
