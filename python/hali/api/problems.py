"""Errors as OpenAI's API tells them: `{"error": {message, type, param, code}}` and the status that goes with it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from hali.model.errors import (
    EngineUnavailable,
    HaliError,
    NotFound,
    Overloaded,
    Refused,
    UsageError,
)

# Sent with every answer, whoever makes it. No CORS header is ever among them: other origins get nothing (security.md,
# promise 4).
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_STATUS_OF_CODE = {"body_too_large": 413, "media_type": 415, "invalid_api_key": 401, "rate_limit": 429, "method": 405}
_OPENAI_CODES = {
    "not_found": "model_not_found",
    "context_length": "context_length_exceeded",
    "rate_limit": "rate_limit_exceeded",
}
_STATUS_OF_KIND: tuple[tuple[type[HaliError], int], ...] = (
    (NotFound, 404),
    (UsageError, 400),
    (Refused, 403),
    (Overloaded, 503),
    (EngineUnavailable, 503),
)


def status_of(error: HaliError) -> int:
    """By code, then by kind; what else may work later is 503, the rest 500."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    for kind, status in _STATUS_OF_KIND:
        if isinstance(error, kind):
            return status
    return 503 if error.retryable else 500


def body_of(error: HaliError) -> dict[str, Any]:
    """The JSON body, also the data of an error event in a stream."""
    status = status_of(error)
    kind = _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    message = f"{error} ({error.hint})" if error.hint else str(error)
    code = _OPENAI_CODES.get(error.code, error.code)
    return {"error": {"message": message, "type": kind, "param": error.details.get("param"), "code": code}}


def problem(error: HaliError) -> Response:
    """The whole answer, with Retry-After where waiting helps."""
    status, headers = status_of(error), {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if (wait := error.details.get("retry_after_s")) is not None and status in (429, 503):
        headers["retry-after"] = str(int(wait))
    return json_response(body_of(error), status, headers)


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`content` as JSON, by msgspec."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")
