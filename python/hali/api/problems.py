"""An error as an HTTP answer: the status that goes with it, and a body in the shape of the API that was spoken.

OpenAI's shape (`{"error": {message, type, param, code}}`) is here, as it is told where no other API is meant; see `dialects`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hali.model.errors import HaliError
from hali.wire.http import SAFE_HEADERS, status_of

SECURITY_HEADERS = tuple((name.encode(), value.encode()) for name, value in SAFE_HEADERS.items())  # as ASGI has them

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_OPENAI_CODES = {
    "not_found": "model_not_found",
    "context_length": "context_length_exceeded",
    "rate_limit": "rate_limit_exceeded",
}

# Bytes of an answer from which on it is not written at once: of smaller ones, what nobody reads is bounded for all connections
# together (`unread_bytes`), which one of many vectors would exceed by itself.
LARGE = 8 * 1024 * 1024
PIECE = 64 * 1024  # bytes of a large answer written at once
SHOWN = 8  # choices in a message; more would hide what is wrong


class ErrorDetail(msgspec.Struct, frozen=True):
    """What failed, on which field, and the name of the failure for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """How OpenAI's API tells an error."""

    error: ErrorDetail


class Dialect(msgspec.Struct, frozen=True):
    """How one API tells an error: the JSON body of it, and the name of a header that numbers every answer."""

    name: str
    body: Callable[[HaliError], Any]
    id_header: str | None = None


def told(error: HaliError) -> str:
    """What happened, what there is to choose from, and what to do, in one line."""
    choices = error.details.get("choices") or []
    what = f"{error}: {', '.join(map(str, choices[:SHOWN]))}" if choices else str(error)
    return f"{what} ({error.hint})" if error.hint else what


def body_of(error: HaliError) -> dict[str, Any]:
    """The JSON body, also the data of an error event in a stream."""
    status = status_of(error)
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    code = _OPENAI_CODES.get(error.code, error.code)
    return {"error": {"message": told(error), "type": kind, "param": error.details.get("param"), "code": code}}


OPENAI = Dialect("openai", body_of)


def problem(error: HaliError, dialect: Dialect = OPENAI) -> Response:
    """The whole answer, with Retry-After where waiting helps."""
    status, headers = status_of(error), {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if (wait := error.details.get("retry_after_s")) is not None and status in (429, 503):
        headers["retry-after"] = str(int(wait))
    return json_response(dialect.body(error), status, headers)


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`content` as JSON, by msgspec."""
    return _InPieces(msgspec.json.encode(content), status, headers, media_type="application/json")


class _InPieces(Response):
    """A large one goes out as fast as it is taken."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.body) < LARGE:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for at in range(PIECE, len(self.body), PIECE):
            await send({"type": "http.response.body", "body": self.body[at - PIECE : at], "more_body": True})
        last = max(0, len(self.body) - 1) // PIECE * PIECE
        await send({"type": "http.response.body", "body": self.body[last:]})
