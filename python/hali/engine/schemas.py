"""JSON schemas said so that llguidance holds to all of them: what it takes for more than it is, is written out or refused. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from hali.model.errors import UsageError

# Of schemas by name, and of values that are no schemas though they may look like one.
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_VALUES = frozenset({"const", "enum", "default", "examples", "example"})

_ESCAPE = re.compile(r"\\(?:[pPxuU]\{[^}]*\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[pP].|.)", re.DOTALL)
_NUL = re.compile(r"\\(?:x00|u0000|U00000000|[xuU]\{0+\})|\0")
_NOTHING = "[a&&b]"

_DAYS = (
    "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
)
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
_DATE = f"(?:[0-9]{{4}}-(?:{_DAYS})|{_LEAP})"
_NEAR_ZERO = 1e-9  # closer to a bound of 0 that is excluded no number comes: llguidance would let 0 itself come
_LARGEST = 1 << 53  # up to here floats have all whole numbers
_TIME = "[0-9]{2}:[0-9]{2}:[0-5]"
# llguidance lets the 29th of February come in every year, and a 60th second in every minute.
_FORMATS = {"date": f"^{_DATE}$", "date-time": f"^{_DATE}[Tt]{_TIME}", "time": f"^{_TIME}"}

# JSON Schema 2020-12, 7.3. Any other name is a remark (Pydantic's "path", OpenAPI's "password") to which a reply can only be true.
_DEFINED = frozenset(
    {
        *("date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6"),
        *("uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template", "regex"),
        *("json-pointer", "relative-json-pointer"),
    }
)

# Names of properties that a schema does not list are, for llguidance, all that are spelled differently: "\u0061" for "a" too.
# Without this escape each string has one spelling; what needs it is no printable text.
_PLAIN = {"json_allowed_escapes": 'nrbtf\\"'}
_NEEDS_ESCAPE = re.compile(r"\\u00(?:[01]|7f)|\x7f|\\\\[xuU]")


def guided(schema: dict[str, Any] | bool, text: str) -> dict[str, Any]:
    """`exact` with what llguidance has to be told besides, of a schema whose JSON is `text`."""
    found = {} if schema is True else exact(schema)
    return {**found, "x-guidance": {} if _NEEDS_ESCAPE.search(text) else _PLAIN}


def mapped(schema: Any, change: Callable[[Any], Any]) -> Any:
    """The same schema with `change` made to each schema directly inside of it, or of a list of them: not to names and values."""
    if isinstance(schema, list):
        return [change(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping):
            found[key] = {name: change(each) for name, each in value.items()}
        else:
            found[key] = value if key in _VALUES else change(value)
    return found


def exact(schema: Any) -> Any:
    """The same schema for llguidance; UsageError for what it cannot count. RecursionError for one that is too deep."""
    if not isinstance(schema, Mapping):
        return mapped(schema, exact)
    _check_count(schema)
    _check_numbers([schema.get("const"), schema.get("enum")])
    found = mapped(_bounded(schema), exact)
    if isinstance(pattern := found.get("pattern"), str):
        found["pattern"] = guarded(pattern)
    if isinstance(named := found.get("patternProperties"), Mapping):
        found["patternProperties"] = {guarded(name): each for name, each in named.items()}
    if found.get("uniqueItems") is False:  # asks for nothing, and llguidance does not know it
        del found["uniqueItems"]
    if isinstance(found.get("format"), str) and found["format"] not in _DEFINED:
        del found["format"]
    if (dated := _FORMATS.get(str(found.get("format")))) is not None:
        also = found.get("allOf")
        found["allOf"] = [*(also if isinstance(also, list) else []), {"pattern": dated}]
    return found


def _check_numbers(value: Any) -> None:
    """llguidance, which has numbers as floats, would make another one of a large whole number."""
    if isinstance(value, list):
        for each in value:
            _check_numbers(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            _check_numbers(each)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise UsageError(
            f"the schema cannot be used: {str(value)[:40]} is more than a reply can be held to (53 bits); as a string it can",
            code="schema",
        )


def _bounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    """With bounds that llguidance, which has them as floats, does not exceed."""
    found = dict(schema)
    for key, away in (("minimum", math.inf), ("maximum", -math.inf)):
        exclusive = "exclusive" + key.capitalize()
        for name in (key, exclusive):
            if _is_number(value := found.get(name)):
                found[name] = _not_beyond(value, away)
        if _is_number(found.get(exclusive)) and not found[exclusive] and found.get("type") != "integer":
            del found[exclusive]
            near, inner = math.copysign(_NEAR_ZERO, away), max if away > 0 else min
            found[key] = inner(near, found[key]) if _is_number(found.get(key)) else near
    return found


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _not_beyond(value: float, away: float) -> float:
    """The bound as it is, or where no float is equal to it, the next one in the direction of `away`."""
    try:
        near = float(value)
    except OverflowError:
        return value
    beyond = near < value if away > 0 else near > value
    return int(math.nextafter(near, away)) if beyond else value


def _check_count(schema: Mapping[str, Any]) -> None:
    """A key that the schema does not list may come twice, and is one property then: several of them cannot be counted."""
    least, required = schema.get("minProperties"), schema.get("required")
    if not isinstance(least, int | float) or (
        schema.get("additionalProperties") is False and not schema.get("patternProperties")
    ):
        return
    listed = len({*required}) if isinstance(required, list) and all(isinstance(name, str) for name in required) else 0
    if least > listed + 1:
        raise UsageError(
            f"the schema cannot be used: minProperties {least} with {listed} required properties, and others that it does "
            "not list: require them by name",
            code="schema",
        )


def guarded(pattern: str) -> str:
    r"""A pattern of fewer strings (none has U+0000), whose classes llguidance takes for what they are inside of JSON.

    It takes a class in which all control characters are for one of all that is written with a backslash: `[^"\\]` let
    `\"` and `\\` come.
    """
    found, at = [], 0
    while at < len(pattern):
        end = _class_end(pattern, at) if pattern[at] == "[" else _escape_end(pattern, at)
        part = pattern[at:end]
        found.append(_guarded_part(part))
        at = end
    return "".join(found)


def _guarded_part(part: str) -> str:
    if _NUL.fullmatch(part):
        return _NOTHING
    is_class = part[0] == "[" and part[-1] == "]" and len(part) > 1
    if is_class or part[:2] in ("\\p", "\\P"):
        return rf"[{part}--\x00]"
    return part


def _escape_end(pattern: str, at: int) -> int:
    """Where what stands at `at` ends: one character, or an escape."""
    escape = _ESCAPE.match(pattern, at)
    return at + 1 if escape is None else escape.end()


def _class_end(pattern: str, at: int) -> int:
    """Behind the bracket that closes the class at `at`; the end of the pattern when none does, which is an error of its own."""
    depth = 0
    while at < len(pattern):
        if pattern[at] == "[":
            depth += 1
            at += 2 if pattern[at + 1 : at + 2] == "^" else 1
            at += pattern[at : at + 1] == "]"  # the first is no end
            continue
        if pattern[at] == "]":
            depth -= 1
            if not depth:
                return at + 1
        at = _escape_end(pattern, at)
    return at
