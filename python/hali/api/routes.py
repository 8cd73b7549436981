"""A route with its declaration: what it takes, what it answers. The OpenAPI document comes from these (`openapi.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from hali.api.problems import ErrorBody

Handler = Callable[[Request], Awaitable[Response]]
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


class Endpoint(Route):
    """A Starlette route; a dialect module exports a tuple `ROUTES` of them and `app.py` joins all.

    `request` and `response` are msgspec types of the JSON bodies: a request of None means no body, a response of None
    an object that is not described. `stream` is the media type of the same answer when it is streamed, None where it
    never is; `media` that of a whole answer, if it is no JSON; `error` the body of every failure, in the dialect's own
    shape; `query` the parameters behind the path's `?`.
    """

    def __init__(
        self,
        path: str,
        handler: Handler,
        *,
        summary: str,
        methods: tuple[str, ...] = ("GET",),
        tag: str = "hali",
        request: Any = None,
        response: Any = None,
        stream: str | None = None,
        media: str = "application/json",
        error: Any = ErrorBody,
        query: tuple[str, ...] = (),
    ) -> None:
        super().__init__(path, handler, methods=list(methods))
        self.declared = methods  # without HEAD, which Starlette adds to GET
        self.summary, self.tag = summary, tag
        self.request, self.response, self.error = request, response, error
        self.stream, self.media, self.query = stream, media, query
        self._literal = "{" not in path

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's, which tries every route's pattern on every request, twice with the gate; most are plain words."""
        if self._literal and scope["type"] == "http" and not scope.get("root_path") and scope["path"] != self.path:
            return Match.NONE, {}
        return super().matches(scope)
