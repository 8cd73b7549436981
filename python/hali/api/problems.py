"""Errors as OpenAI's API tells them: `{"error": {message, type, param, code}}` and the status that goes with it."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from hali.model.errors import HaliError
from hali.wire.http import SAFE_HEADERS, status_of

SECURITY_HEADERS = tuple((name.encode(), value.encode()) for name, value in SAFE_HEADERS.items())  # as ASGI has them

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_OPENAI_CODES = {
    "not_found": "model_not_found",
    "context_length": "context_length_exceeded",
    "rate_limit": "rate_limit_exceeded",
}


class ErrorDetail(msgspec.Struct, frozen=True):
    """What failed, on which field, and the name of the failure for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """How OpenAI's API tells an error."""

    error: ErrorDetail


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
