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
        raise UsageError(f"the body is not JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise UsageError("the body is nested too deeply", code="invalid_json") from None


def _invalid(text: str) -> UsageError:
    place = _PLACE.match(text)
    missing = _MISSING.search(text)
    path = ((place["path"] or place["key"]) if place else None) or "$"
    param = ".".join(part for part in (path.removeprefix("$").strip("."), missing[1] if missing else "") if part)
    what = place["what"] if place else text
    return UsageError(f"{param}: {what}" if param else what, code="invalid_value", details={"param": param or None})
