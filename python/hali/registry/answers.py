"""How the registry answers: JSON, errors with a code, the same safe headers on everything. No CORS header is ever among them."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hali.model.errors import HaliError, NotFound, Overloaded, Refused, UsageError, VerificationFailed

HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_STATUS_OF_CODE = {
    "body_too_large": 413,
    "media_type": 415,
    "method": 405,
    "rate_limit": 429,
    "replayed": 409,
    "no_manifest": 409,
}
_STATUS_OF_KIND: tuple[tuple[type[HaliError], int], ...] = (
    (NotFound, 404),
    (UsageError, 400),
    (VerificationFailed, 422),
    (Refused, 403),
    (Overloaded, 503),
)


def status_of(error: HaliError) -> int:
    """By code, then by kind; what else may work later is 503, the rest 500."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    for kind, status in _STATUS_OF_KIND:
        if isinstance(error, kind):
            return status
    return 503 if error.retryable else 500


def problem(error: HaliError) -> Response:
    """`{"error": {"code", "message", "hint"}}`, with Retry-After where waiting helps."""
    body = {"code": error.code, "message": error.message}
    if error.hint:
        body["hint"] = error.hint
    headers = {}
    if (wait := error.details.get("retry_after_s")) is not None:
        headers["retry-after"] = str(max(1, round(wait)))
    return answer({"error": body}, status_of(error), headers)


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`content` as JSON."""
    return Response(msgspec.json.encode(content), status, {**HEADERS, **(headers or {})}, media_type="application/json")


async def body_of(request: Request, limit: int) -> bytes:
    """The body of a JSON request; UsageError for another type (415) or more than `limit` bytes (413)."""
    # Also a guard: a page of another origin cannot send this type without asking first, and nobody answers that question.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UsageError("send application/json", code="media_type")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:18]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> UsageError:
    return UsageError(f"the body is larger than {limit} bytes", code="body_too_large")
