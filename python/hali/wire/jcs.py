"""RFC 8785, the JSON Canonicalization Scheme: the one text of a JSON value, so that a signature means the value. Sans-I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

EXACT = 2**53 - 1  # RFC 7493: whole numbers beyond are not the same in every reader
MAX_DEPTH = 64  # of arrays and objects; hali's own documents have three
_TO_ESCAPE = re.compile(r'[\x00-\x1f"\\]')
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def encode(value: Any) -> bytes:
    """The canonical UTF-8 text of `value` (what `json.loads` gives); ValueError for what I-JSON (RFC 7493) cannot say."""
    return "".join(_parts(value, 0)).encode()


def decode(text: bytes) -> Any:
    """The value of any JSON text; ValueError also for a name that stands twice in one object, which readers take differently."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _whole(digits: str) -> int | float:
    """RFC 8785 knows doubles only, so a longer number is the double that every reader makes of it."""
    exact = len(digits) <= 17 and abs(int(digits)) <= EXACT
    return int(digits) if exact else float(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parts(value: Any, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    match value:
        case None | True | False:
            yield {None: "null", True: "true", False: "false"}[value]
        case str():
            yield _string(value)
        case int() | float():
            yield number(value)
        case list() | tuple():
            yield from _joined("[", "]", (_parts(item, depth + 1) for item in value))
        case dict():
            yield from _joined("{", "}", (_member(name, value[name], depth) for name in _in_order(value)))
        case _:
            raise ValueError(f"{type(value).__name__} is not a JSON value")


def _joined(opening: str, closing: str, items: Iterator[Iterator[str]]) -> Iterator[str]:
    yield opening
    for position, item in enumerate(items):
        if position:
            yield ","
        yield from item
    yield closing


def _member(name: str, value: Any, depth: int) -> Iterator[str]:
    yield _string(name) + ":"
    yield from _parts(value, depth + 1)


def _in_order(names: dict[Any, Any]) -> list[str]:
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names in an object are strings")
    return sorted(names, key=lambda name: _utf16(name))  # 3.2.3: by UTF-16 code units, so U+1F600 comes before U+FB33


def _utf16(text: str) -> bytes:
    try:
        return text.encode("utf-16-be")
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate is not Unicode text") from None


def _string(text: str) -> str:
    _utf16(text)
    return '"' + _TO_ESCAPE.sub(lambda m: _SHORT.get(m[0]) or f"\\u{ord(m[0]):04x}", text) + '"'


def number(value: int | float) -> str:
    """A number as ECMAScript's Number::toString writes it (3.2.2.3): shortest digits that read back, no more."""
    if isinstance(value, int):
        if abs(value) > EXACT:
            raise ValueError(f"{value} cannot be exact in every JSON reader")
        return str(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    if value == 0:
        return "0"  # also -0
    sign = "-" if value < 0 else ""
    digits, point = _shortest(abs(value))
    return sign + _place(digits, point)


def _shortest(value: float) -> tuple[str, int]:
    """(digits, n) with value = 0.digits × 10ⁿ. Python's repr gives the shortest digits that read back, as ECMAScript demands."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    return digits.rstrip("0"), point


def _place(digits: str, n: int) -> str:
    k = len(digits)
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    exponent = f"e{'+' if n > 0 else '-'}{abs(n - 1)}"
    return digits[:1] + ("." + digits[1:] if k > 1 else "") + exponent
