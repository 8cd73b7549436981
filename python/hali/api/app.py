"""The Starlette application: routes, the gate before them, errors as OpenAI tells them."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, Literal

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from hali._version import __version__
from hali.api import (
    anthropic_routes,
    chat,
    completions,
    dashboard_assets,
    dashboard_routes,
    embeddings,
    mcp_routes,
    ollama_models,
    ollama_routes,
    responses,
    text_routes,
)
from hali.api.asking import deps_of
from hali.api.base import ApiDeps
from hali.api.dialects import dialect_of
from hali.api.gate import Gate
from hali.api.metered import MeteredRouter
from hali.api.metrics import ROUTES as METRICS
from hali.api.openai_shapes import ModelList, ModelObject
from hali.api.openapi import PATH as openapi_path
from hali.api.openapi import as_text
from hali.api.problems import json_response, problem
from hali.api.routes import Endpoint
from hali.model.errors import HaliError, NotFound, UsageError
from hali.pipeline.base import ServedModel
from hali.runtime.log import get_logger
from hali.wire.http import status_of

log = get_logger(__name__)


class Index(msgspec.Struct, frozen=True):
    """What this is and what it answers, each as `METHOD /path`."""

    name: str
    version: str
    endpoints: list[str]


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str
    version: str


class Readiness(msgspec.Struct, frozen=True):
    """Whether a request for tokens would be taken now, why not, and how many are in hand."""

    status: Literal["ready", "not ready"]
    reason: str | None
    running: int
    queued: int


def build_app(deps: ApiDeps) -> Starlette:
    """The whole HTTP API. Whether a key is needed is in `deps`; `ApiServer` sets it by the address it binds."""
    deps = dataclasses.replace(deps, router=MeteredRouter(deps.router, deps.metrics))
    handlers: dict[Any, Any] = {HTTPException: _http_problem, HaliError: _hali_problem}
    gate = Middleware(Gate, deps=deps, routes=ROUTES)
    app = Starlette(routes=[*ROUTES, dashboard_routes.WEBSOCKET], middleware=[gate], exception_handlers=handlers)
    app.router.redirect_slashes = False  # a redirect is built from Host; a wrong path is a 404
    app.state.deps = deps
    return app


async def index(request: Request) -> Response:
    """What this is and what it answers; for a browser the dashboard."""
    if dashboard_assets.wants_page(request.scope["headers"]):
        return dashboard_assets.page(request)
    endpoints = [f"{method} {route.path}" for route in ROUTES for method in route.declared]
    return json_response(Index("hali", __version__, endpoints), headers={"vary": "Accept"})


@cache
def _document() -> bytes:
    return as_text(ROUTES).encode()


async def openapi(_: Request) -> Response:
    """The description of all this for programs."""
    return Response(_document(), media_type="application/json")


async def health(_: Request) -> Response:
    """The process answers."""
    return json_response(Health("ok", __version__))


async def ready(request: Request) -> Response:
    """200 when a request for tokens would be taken now, else 503 with the reason."""
    deps = deps_of(request)
    stats = deps.router.stats()
    reason = deps.not_ready() or (None if stats.accepting else "the inference router is not running")
    state = Readiness("not ready" if reason else "ready", reason, stats.running, stats.queued)
    return json_response(state, 503 if reason else 200)


async def list_models(request: Request) -> Response:
    """All models that can answer; a page of them in Anthropic's shape for its clients."""
    if anthropic_routes.is_anthropics(request):
        return anthropic_routes.models_page(request)
    return json_response({"object": "list", "data": [_model(m) for m in deps_of(request).catalog.list()]})


async def show_model(request: Request) -> Response:
    """One of them, by any of its names."""
    model = deps_of(request).catalog.find(request.path_params["name"])
    if anthropic_routes.is_anthropics(request):
        return anthropic_routes.one_model(model)
    return json_response(_model(model))


def _model(model: ServedModel) -> dict[str, Any]:
    ours = {"sha256": model.sha256, "size": model.size, "aliases": model.aliases}
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": "hali", **ours}


async def _hali_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HaliError)
    if status_of(error) >= 500:
        log.warning("api.failed", code=error.code, error=str(error))
    return problem(error, dialect_of(request.scope["path"], request.scope["headers"]))


async def _http_problem(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405 in the words of the API that was meant."""
    assert isinstance(error, HTTPException)
    dialect = dialect_of(request.scope["path"], request.scope["headers"])
    if error.status_code == 405:
        response = problem(UsageError(f"{request.method} is not allowed here", code="method"), dialect)
        response.headers["allow"] = (error.headers or {}).get("Allow", "")
        return response
    if error.status_code == 404:
        missing = NotFound("there is no such endpoint", hint="GET / lists them", code="no_endpoint")
        return problem(missing, dialect)
    return problem(UsageError(str(error.detail), code="request"), dialect)


ROUTES: tuple[Endpoint, ...] = (
    Endpoint("/", index, summary="What this is and what it answers; for browsers the dashboard", response=Index),
    Endpoint(openapi_path, openapi, summary="This document"),
    Endpoint("/health", health, summary="The process answers", response=Health),
    Endpoint("/health/ready", ready, summary="Whether a request for tokens would be taken now", response=Readiness),
    Endpoint("/v1/models", list_models, summary="All models that can answer", tag="openai", response=ModelList),
    # names may hold slashes: owner/repo
    Endpoint(
        "/v1/models/{name:path}",
        show_model,
        summary="One model, by any of its names",
        tag="openai",
        response=ModelObject,
    ),
    *chat.ROUTES,
    *METRICS,
    *completions.ROUTES,
    *embeddings.ROUTES,
    *responses.ROUTES,
    *anthropic_routes.ROUTES,
    *ollama_routes.ROUTES,
    *ollama_models.ROUTES,
    *text_routes.ROUTES,
    *mcp_routes.ROUTES,
    *dashboard_routes.ROUTES,
)
