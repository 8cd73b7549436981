"""The registry's HTTP application: routes, limits before them, errors after them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hali._version import __version__
from hali.model.errors import HaliError, NotFound, UsageError
from hali.registry import reading, writing
from hali.registry.answers import answer, problem
from hali.registry.bounds import Bounds, Gate
from hali.registry.storage import Storage
from hali.runtime.log import get_logger
from hali.wire.http import SAFE_HEADERS

log = get_logger(__name__)
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass
class Deps:
    """What the endpoints share."""

    storage: Storage
    bounds: Bounds = field(default_factory=Bounds)
    clock: Callable[[], float] = time.time  # wall clock: documents carry dates
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.gate = Gate(self.bounds)
        self.requests = Counter(
            "hali_registry_requests", "Requests by route and status.", ["route", "status"], registry=self.metrics
        )
        self.rows = Gauge("hali_registry_rows", "Rows kept, by kind.", ["kind"], registry=self.metrics)

    @property
    def now(self) -> int:
        """Unix time in whole seconds."""
        return int(self.clock())


ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", "/publish", writing.publish),
    ("POST", "/ingest", writing.ingest),
    ("POST", "/profile", writing.profile),
    ("POST", "/rotate", writing.rotate),
    ("POST", "/revoke", writing.revoke),
    ("POST", "/report", writing.report),
    ("HEAD", "/ingest/{infohash}", reading.has_torrent),
    ("GET", "/search", reading.search),
    ("GET", "/model/{name}", reading.model),
    ("GET", "/torrent/{infohash}", reading.torrent),
    ("GET", "/publisher/{key}", reading.publisher),
    ("GET", "/health", reading.health),
)


def build_app(deps: Deps) -> Starlette:
    """The whole HTTP API over `deps.storage`."""
    routes = [Route(path, _guarded(deps, path, endpoint), methods=[method]) for method, path, endpoint in ROUTES]
    routes += [
        Route("/", _index, methods=["GET"]),
        Route("/metrics", _guarded(deps, "/metrics", _metrics), methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: _http_problem, HaliError: _hali_problem}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # a redirect is built from Host; a wrong path is a 404
    app.state.deps = deps
    return app


def _guarded(deps: Deps, route: str, endpoint: Endpoint) -> Endpoint:
    """`endpoint` behind the rate limit of its caller's address, counted by route and status."""

    async def handle(request: Request) -> Response:
        try:
            deps.gate.address(request.client.host if request.client else "", write=request.method == "POST")
            response = await endpoint(request)
        except HaliError as exc:
            response = problem(exc)
            if response.status_code >= 500:
                log.error("registry.failed", route=route, error=str(exc))
        deps.requests.labels(route, str(response.status_code)).inc()
        return response

    return handle


async def _index(request: Request) -> Response:
    """What this is and what it answers."""
    endpoints = [f"{method} {path}" for method, path, _ in ROUTES]
    return answer({"name": "hali registry", "version": __version__, "endpoints": [*endpoints, "GET /metrics"]})


async def _metrics(request: Request) -> Response:
    deps: Deps = request.app.state.deps
    for kind, count in (await reading.counts(request)).items():
        deps.rows.labels(kind).set(count)
    return Response(generate_latest(deps.metrics), headers={**SAFE_HEADERS, "content-type": CONTENT_TYPE_LATEST})


async def _hali_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HaliError)
    return problem(error)


async def _http_problem(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405 in our words."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        response = problem(UsageError(f"{request.method} is not allowed here", code="method"))
        response.headers["allow"] = (error.headers or {}).get("Allow", "")
        return response
    return problem(NotFound("there is no such endpoint", hint="GET / lists them", code="no_endpoint"))
