"""How the registry answers: JSON, errors with a code, the same safe headers on everything. No CORS header is ever among them."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hali.model.errors import HaliError, UsageError
from hali.wire.http import SAFE_HEADERS, read_body, status_of


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
    return Response(
        msgspec.json.encode(content), status, {**SAFE_HEADERS, **(headers or {})}, media_type="application/json"
    )


async def body_of(request: Request, limit: int) -> bytes:
    """The body of a JSON request; UsageError for another type (415) or more than `limit` bytes (413)."""
    # Also a guard: a page of another origin cannot send this type without asking first, and nobody answers that question.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UsageError("send application/json", code="media_type")
    return await read_body(request.headers.get("content-length", "0"), request.stream(), limit)
