"""Request bodies: bounded, JSON, typed."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from starlette.requests import Request

from hali.model.errors import UsageError
from hali.wire.http import read_body

T = TypeVar("T")

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`| - at `key` in `(?P<key>[^`]*)`)?$", re.DOTALL)
_LONE = re.compile(rb"(?<!\\)\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")  # the first half of a pair, alone
_MISSING = re.compile(r"missing required field `(\w+)`")


async def read_json(request: Request, kind: type[T], limit: int) -> T:
    """The body as `kind`.

    `UsageError` that names the field, 413 above `limit` bytes. Time limits are the connection's (http.py).
    """
    declared = request.headers.get("content-length", "0")
    return decode(await read_body(declared, request.stream(), limit), kind)


def decode(body: bytes, kind: type[T]) -> T:
    """JSON text as `kind`, or a `UsageError` with the path of what is wrong in `details['param']`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the body is not JSON: {_why(str(error), body)}", code="invalid_json") from None
    except RecursionError:
        raise UsageError("the body is nested too deeply", code="invalid_json") from None


def _why(text: str, body: bytes) -> str:
    """msgspec misses the second half of a pair at the end of a body as it does the rest of one that was cut."""
    if "surrogate" in text or ("truncated" in text and _LONE.search(body[-32:])):
        return "a lone surrogate (half of a pair of \\u escapes) is no text"
    return text


def _invalid(text: str) -> UsageError:
    place = _PLACE.match(text)
    missing = _MISSING.search(text)
    path = ((place["path"] or place["key"]) if place else None) or "$"
    param = ".".join(part for part in (path.removeprefix("$").strip("."), missing[1] if missing else "") if part)
    what = place["what"] if place else text
    return UsageError(f"{param}: {what}" if param else what, code="invalid_value", details={"param": param or None})
