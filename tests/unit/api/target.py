"""The whole application with a counter in the place of what its routes do: what gets through the gate, and what does not."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hali.api import ApiDeps, build_app

OWN = "127.0.0.1:47433"
Headers = tuple[tuple[str, str], ...]
WEBSOCKET = "WEBSOCKET"  # in the place of a method: a handshake


class Answer(NamedTuple):
    """What came of one request: its status and headers, and how many routes it reached."""

    status: int
    headers: Mapping[str, str]
    reached: int


class Target:
    """The application of `deps`, with a counter in the place of what its routes do."""

    def __init__(self, deps: ApiDeps) -> None:
        self.app: Starlette = build_app(deps)
        self.reached = 0
        self.app.router.routes[:] = map(copy.copy, self.app.routes)  # modules share theirs between applications
        for route in self.app.routes:
            route.app = self._counted  # type: ignore[attr-defined]

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept", "headers": []})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})

    def routes(self) -> list[Route]:
        """Those of HTTP."""
        return [route for route in self.app.routes if isinstance(route, Route)]

    def paths(self) -> list[str]:
        """One path for each of them, and two that are none."""
        templates = [route.path for route in self.routes()]
        filled = [re.sub(r"\{\w+\}", "acme", re.sub(r"\{\w+:path\}", "acme/tiny", path)) for path in templates]
        return [*filled, "/nosuch", "/v1/../v1/models"]

    async def ask(self, method: str, path: str, headers: Headers) -> Answer:
        """One request, by ASGI."""
        sent: list[dict[str, object]] = []
        before = self.reached

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        raw = [(name.encode(), value.encode()) for name, value in headers]
        kind = {"type": "websocket"} if method == WEBSOCKET else {"type": "http", "method": method}
        scope = {**kind, "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"headers": raw, "server": ("127.0.0.1", 47433), "client": ("127.0.0.1", 5), "scheme": "http"}
        await self.app({**scope, "asgi": {"version": "3.0"}, "http_version": "1.1"}, receive, send)  # type: ignore[arg-type]
        told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}  # type: ignore[attr-defined]
        status = 101 if sent[0]["type"] == "websocket.accept" else int(str(sent[0]["status"]))
        return Answer(status, told, self.reached - before)
