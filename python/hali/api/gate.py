"""The one door all requests pass: Host, Origin, key, content type; also the last net for errors.

It stands outside of routing, so that answers to wrong paths and methods pass it too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from urllib.parse import unquote

import anyio
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hali.api import scopes
from hali.api.base import ApiDeps, ApiKey
from hali.api.dashboard_assets import public
from hali.api.dialects import dialect_of, new_request_id
from hali.api.keys import digest_of
from hali.api.metered import give_back
from hali.api.origins import RawHeaders, authorities, foreign, values
from hali.api.problems import SECURITY_HEADERS, Dialect, problem
from hali.api.timing import Exchange, exchanging
from hali.model.errors import Failed, HaliError, Overloaded, Refused, UsageError
from hali.runtime.log import get_logger

log = get_logger(__name__)

KEY = "hali_key"  # scope["state"]: the ApiKey of this request, or None
TARGET = "hali_target"  # scope["state"]: the authority in the target of this request, where that was a whole URL
RESERVED = "hali_reserved"  # scope["state"]: this connection sits in a slot kept for control routes
DEADLINE = b"x-hali-deadline-ms"  # by when the whole reply must be there, counted from now; else it is given up
CONTROL = frozenset(
    {"/", "/health", "/health/ready", "/metrics", "/v1/models"}
)  # cheap, and what one asks when hali seems stuck
# Asks for the comment at the end of a stream; unasked, clients that know no comments might choke.
TIMING = b"x-hali-timing"
_WHOLE_URL = re.compile(rb"https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Gate:
    """ASGI middleware. Decides by `scope["path"]` and raw headers, not by a URL rebuilt from Host (CVE-2026-48710)."""

    def __init__(self, app: ASGIApp, deps: ApiDeps, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._routes = routes
        self._names = deps.names
        self._require_key = deps.require_key
        self._ring, self._metrics, self._spans = deps.ring, deps.metrics, deps.spans
        for key in deps.keys:
            self._ring.put(digest_of(key.secret.encode()), key)
        self._authorities = lru_cache(maxsize=64)(lambda address, port: authorities(address, port, self._names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        _to_origin_form(scope)
        method = scope.get("method", "GET")  # a WebSocket begins as GET
        exchange = Exchange(method, route_of(self._routes, {**scope, "type": "http", "method": method}))
        door = _Door(send, exchange, dialect_of(scope["path"], scope["headers"]))
        with exchanging(exchange):
            await self._pass(scope, receive, door, exchange)

    async def _pass(self, scope: Scope, receive: Receive, door: _Door, exchange: Exchange) -> None:
        try:
            check = self._check_upgrade if scope["type"] == "websocket" else self._check
            check(scope, exchange)
            exchange.gate_s = time.monotonic() - exchange.began
            await self._app(scope, receive, door.send)
        except ClientDisconnect:
            log.debug("api.client_left", path=repr(scope["path"]))
        except HaliError as error:
            log.info("api.refused", path=repr(scope["path"]), code=error.code, error=str(error))
            await self._answer(door, error, scope, receive)
        except Exception as bug:  # the border: the client gets a 500 without our internals, the log gets everything
            log.error("api.broken", exc=bug, path=repr(scope["path"]))
            await self._answer(door, Failed("internal error", code="internal"), scope, receive)
        finally:
            give_back(exchange)
            seconds = (door.upgraded or time.monotonic()) - exchange.began
            status = door.status if door.finished else None
            self._metrics.answered(exchange, status, seconds)
            if self._spans is not None:
                self._spans.answered(exchange, status, seconds, scope["headers"])
            log.debug(
                "api.request",
                method=exchange.method,
                path=repr(scope["path"]),
                status=door.status,
                seconds=round(seconds, 3),
            )

    async def _answer(self, door: _Door, error: HaliError, scope: Scope, receive: Receive) -> None:
        if door.started:
            raise error  # uvicorn cuts the connection: the client sees a broken reply, not a short one
        await problem(error, door.dialect)(scope, receive, door.send)

    def _check(self, scope: Scope, exchange: Exchange) -> None:
        headers: RawHeaders = scope["headers"]
        self._must_be_ours(scope)
        state = scope.setdefault("state", {})
        state[KEY] = exchange.key = self._identify(headers, needed=not public(exchange.route, headers))
        self._must_have_room(scope)
        if scope["method"] in _WITH_BODY or (scope["method"] == "DELETE" and _has_body(headers)):
            _must_be_json(headers)
        self._allow(exchange, headers)
        exchange.comment = bool(values(headers, TIMING))

    def _check_upgrade(self, scope: Scope, exchange: Exchange) -> None:
        """Browsers send Origin with each handshake and ask no permission first (no CORS), so it must be there and ours.

        The key is that of the ticket.
        """
        self._must_be_ours(scope)
        if len(values(scope["headers"], b"origin")) != 1:
            raise Refused("a WebSocket needs one Origin, and ours", code="origin")
        self._must_have_room(scope)

    def _must_be_ours(self, scope: Scope) -> None:
        address, port = scope.get("server") or ("", None)
        target = scope.get("state", {}).get(TARGET)
        reason = foreign(scope["headers"], self._authorities(address, port or 0), target)
        if reason is not None:
            raise Refused(reason, code="origin")

    @staticmethod
    def _must_have_room(scope: Scope) -> None:
        if scope.get("state", {}).get(RESERVED) and scope["path"] not in CONTROL:
            raise Overloaded("too many connections", details={"retry_after_s": 1})

    def _allow(self, exchange: Exchange, headers: RawHeaders) -> None:
        """Scope and budget; the last of all checks, so that only what reaches a route is counted."""
        if exchange.route is None:
            return
        if exchange.key is not None:
            scopes.check(exchange.key.scopes, exchange.method, exchange.route)
        if exchange.method == "POST" and scopes.needed(exchange.method, exchange.route) == scopes.INFERENCE:
            exchange.budget = self._ring.budget(exchange.key)
            exchange.budget.request(time.monotonic())
            exchange.deadline = _deadline(headers)

    def _identify(self, headers: RawHeaders, *, needed: bool) -> ApiKey | None:
        """The key of the request, None if it is not one of ours; `Refused` where one is required.

        Where none is required (loopback) any is accepted, as OpenAI clients must send one; a known one names its owner.
        """
        known = next((key for secret in _sent(headers) if (key := self._ring.find(secret)) is not None), None)
        if known is None and needed and self._require_key:
            text = "a valid API key is required: Authorization: Bearer <key>"
            raise Refused(text, hint="`hali config path` names the folder that holds it", code="invalid_api_key")
        return known


class _Door:
    """`send` that adds the headers of every answer and knows how far it has come."""

    def __init__(self, send: Send, exchange: Exchange, dialect: Dialect) -> None:
        self._send, self._exchange = send, exchange
        self.dialect = dialect  # of the API that the path belongs to
        self.status: int | None = None  # None until the answer has begun
        self.finished = False  # all of it was sent
        self.upgraded: float | None = None  # when it became a WebSocket

    @property
    def started(self) -> bool:
        """An answer has begun; no other can be sent."""
        return self.status is not None

    async def send(self, message: Message) -> None:
        """See the class."""
        if message["type"] == "websocket.accept":
            self.status, self.finished, self.upgraded = 101, True, time.monotonic()
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            present = {name.lower() for name, _ in message.get("headers", ())}
            added = [header for header in SECURITY_HEADERS if header[0] not in present]
            message = {**message, "headers": [*message.get("headers", ()), *added, *self._measured()]}
        await self._send(message)
        if message["type"] in ("http.response.body", "websocket.http.response.body"):
            self.finished = not message.get("more_body", False)

    def _measured(self) -> Iterator[tuple[bytes, bytes]]:
        if self.dialect.id_header is not None:
            yield self.dialect.id_header.encode(), new_request_id().encode()
        yield b"server-timing", self._exchange.server_timing().encode()
        if self._exchange.budget is not None:
            for name, value in self._exchange.budget.headers(time.monotonic()):
                yield name.encode(), value.encode()


def _to_origin_form(scope: Scope) -> None:
    """A target that is a whole URL, as for a proxy, means its path, and its authority is a second Host (RFC 9112, 3.2.2)."""
    if (url := _WHOLE_URL.fullmatch(scope.get("raw_path") or b"")) is not None:
        scope["raw_path"] = url[2] or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("latin-1"))
        scope.setdefault("state", {})[TARGET] = url[1]


def _sent(headers: RawHeaders) -> list[bytes]:
    """The secrets of a request: that of `Authorization: Bearer`, and of `x-api-key`, as Anthropic's clients send it."""
    found = []
    if len(sent := values(headers, b"authorization")) == 1:
        scheme, _, secret = sent[0].partition(b" ")
        found += [secret.strip()] if scheme.lower() == b"bearer" else []
    if len(keys := values(headers, b"x-api-key")) == 1:
        found.append(keys[0].strip())
    return found


def _has_body(headers: RawHeaders) -> bool:
    lengths = values(headers, b"content-length")
    return bool(values(headers, b"transfer-encoding")) or any(length.strip(b" 0") for length in lengths)


def _must_be_json(headers: RawHeaders) -> None:
    """`UsageError` (415) for everything else.

    A form or text/plain is what a page of another site can send without asking first (CORS preflight); a compressed
    body can be a bomb.
    """
    types = values(headers, b"content-type")
    if len(types) != 1 or types[0].split(b";")[0].strip().lower() != b"application/json":
        raise UsageError("the body must be JSON: Content-Type: application/json", code="media_type")
    if any(value.strip().lower() != b"identity" for value in values(headers, b"content-encoding")):
        raise UsageError("compressed bodies are not accepted", code="media_type")


def _deadline(headers: RawHeaders) -> float | None:
    sent = values(headers, DEADLINE)
    if not sent:
        return None
    if len(sent) > 1 or not sent[0].isdigit() or len(sent[0]) > 9:  # 11 days
        raise UsageError(f"{DEADLINE.decode()}: whole milliseconds, at most nine digits", code="invalid_value")
    return anyio.current_time() + int(sent[0]) / 1000


def route_of(routes: Sequence[BaseRoute], scope: Scope) -> str | None:
    """The template of the route that this request goes to, or that knows its path and not its method; None for other paths."""
    partly = None
    for route in routes:
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return str(getattr(route, "path", ""))
        if match is Match.PARTIAL and partly is None:
            partly = str(getattr(route, "path", ""))
    return partly
