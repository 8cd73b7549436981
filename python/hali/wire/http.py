"""What every HTTP server of hali does alike: safe headers, an error's status, a body with a limit. No I/O of its own."""

from __future__ import annotations

from collections.abc import AsyncIterable

from hali.model.errors import (
    EngineUnavailable,
    HaliError,
    NotFound,
    Overloaded,
    Refused,
    UsageError,
    VerificationFailed,
)

# Sent with every answer, whoever makes it. No CORS header is ever among them: other origins get nothing (security.md,
# promise 4).
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_STATUS_OF_CODE = {
    "body_too_large": 413,
    "media_type": 415,
    "invalid_api_key": 401,
    "rate_limit": 429,
    "method": 405,
    "not_installed": 501,
    "replayed": 409,
    "no_manifest": 409,
}
_STATUS_OF_KIND: tuple[tuple[type[HaliError], int], ...] = (
    (NotFound, 404),
    (UsageError, 400),
    (VerificationFailed, 422),
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


async def read_body(declared: str, chunks: AsyncIterable[bytes], limit: int) -> bytes:
    """All of `chunks`; UsageError (413) above `limit` bytes, already when the Content-Length `declared` is."""
    too_large = UsageError(f"the body is larger than {limit} bytes", code="body_too_large")
    if declared.isdigit() and int(declared[:18]) > limit:  # 18 digits are more than any limit, and quick to read
        raise too_large
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)
