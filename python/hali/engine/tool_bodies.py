"""What stands between the marks of a tool call: readers fed with ever more of the same text. Pure.

A reader's answer for a text is its answer for every longer one, unless it is MORE: so it does not matter how a reply is cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

HEAD_LIMIT = 256  # characters of a function's name and what surrounds it; OpenAI allows names of 64
_STRUCTURE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')
_NAMES = ("name", "tool_name")
_ARGUMENTS = ("arguments", "parameters")

Schemas = Mapping[str, dict[str, Any]]  # of the request's tools: name → JSON schema of its arguments


@dataclass(frozen=True)
class Call:
    """A function's name, and its arguments as JSON text of an object."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Found:
    """Calls, and where the text goes on behind them."""

    calls: tuple[Call, ...]
    end: int


Outcome = Found | Literal["more", "wrong"]


class Body(Protocol):
    """Reads one call, or one list of calls."""

    def read(self, text: str, final: bool) -> Outcome:
        """`text` begins behind the opening mark and is the last one's continuation; `final`: no more will come."""


MakeBody = Callable[[Schemas], Body]


class JsonEnd:
    """Finds where a JSON object or array ends in a text that grows; each character is looked at once."""

    def __init__(self, start: int) -> None:
        self._at, self._depth, self._string = start, 0, False
        self._end = -1

    def find(self, text: str) -> int:
        """The index behind its last bracket; -1 while that has not come."""
        while self._end < 0 and (match := (_IN_STRING if self._string else _STRUCTURE).search(text, self._at)):
            self._at = match.end()
            mark = match.group()
            if mark == "\\":
                self._at += 1  # may lie beyond the text: then its character has not come yet
            elif mark == '"':
                self._string = not self._string
            else:
                self._depth += 1 if mark in "{[" else -1
                if self._depth <= 0:
                    self._end = self._at
        self._at = max(self._at, len(text))
        return self._end


class JsonBody:
    """An object with name and arguments, or a list of them, and one of `closings` behind it if it is there."""

    def __init__(self, closings: tuple[str, ...] = (), known: Schemas | None = None) -> None:
        self._closings, self._known = closings, known
        self._scan: JsonEnd | None = None
        self._found: tuple[tuple[Call, ...], int] | None = None

    def read(self, text: str, final: bool) -> Outcome:
        """See Body."""
        if self._found is None:
            begin = len(text) - len(text.lstrip())
            if begin == len(text):
                return "wrong" if final else "more"
            if text[begin] not in "{[":
                return "wrong"
            self._scan = self._scan or JsonEnd(begin)
            end = self._scan.find(text)
            if end < 0:
                return "wrong" if final else "more"
            calls = calls_in(text[begin:end], self._known)
            if not calls:
                return "wrong"
            self._found = calls, end
        return closed(text, *self._found, self._closings, final)


def closed(text: str, calls: tuple[Call, ...], end: int, closings: tuple[str, ...], final: bool) -> Outcome:
    """Calls that end at `end`, and the first of `closings` that stands behind them; models forget it, so it may be missing."""
    at = end + len(text[end:]) - len(text[end:].lstrip())
    rest = text[at:]
    if not final and any(closing.startswith(rest) and closing != rest for closing in closings):
        return "more"
    return Found(calls, next((at + len(closing) for closing in closings if rest.startswith(closing)), end))


class NamedBody:
    """A function's name in a text that `head` matches (group "name"), then the object of its arguments."""

    def __init__(self, head: re.Pattern[str], closings: tuple[str, ...] = ()) -> None:
        self._head, self._closings = head, closings
        self._name = ""
        self._scan: JsonEnd | None = None
        self._begin = -1

    def read(self, text: str, final: bool) -> Outcome:
        """See Body."""
        if self._scan is None:
            self._begin = text.find("{", 0, HEAD_LIMIT)
            if self._begin < 0:
                return "wrong" if final or len(text) >= HEAD_LIMIT else "more"
            match = self._head.fullmatch(text, 0, self._begin)
            if match is None:
                return "wrong"
            self._name, self._scan = match["name"], JsonEnd(self._begin)
        return self._arguments(text, final)

    def _arguments(self, text: str, final: bool) -> Outcome:
        assert self._scan is not None
        end = self._scan.find(text)
        if end < 0:
            return "wrong" if final else "more"
        call = call_of(self._name, text[self._begin : end])
        return "wrong" if call is None else closed(text, (call,), end, self._closings, final)


class Either:
    """The first of several readers that finds something; wrong when all are."""

    def __init__(self, *bodies: Body) -> None:
        self._bodies = list(bodies)

    def read(self, text: str, final: bool) -> Outcome:
        """See Body."""
        outcomes = [(body, body.read(text, final)) for body in self._bodies]
        for _, outcome in outcomes:
            if isinstance(outcome, Found):
                return outcome
        self._bodies = [body for body, outcome in outcomes if outcome == "more"]
        return "more" if self._bodies else "wrong"


# --- JSON to calls


def calls_in(text: str, known: Schemas | None = None) -> tuple[Call, ...]:
    """The calls that a JSON object or list stands for; empty if it stands for anything else.

    With `known` only calls of those functions, and with their arguments: what stands between marks may lack them.
    """
    value = load(text)
    default: dict[str, Any] | None = {} if known is None else None
    found = [_as_call(item, default) for item in (value if isinstance(value, list) else [value])]
    calls = tuple(call for call in found if call is not None and (known is None or call.name in known))
    return calls if len(calls) == len(found) else ()


def call_of(name: str, arguments: str) -> Call | None:
    """A call with the JSON text of its arguments; None if that is no object."""
    return make_call(name, load(arguments))


def _as_call(item: Any, default: dict[str, Any] | None) -> Call | None:
    """`default` stands for arguments that are not given."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict):
        return None
    name = next((item[key] for key in _NAMES if key in item), None)
    arguments = next((item[key] for key in _ARGUMENTS if item.get(key) is not None), default)
    return make_call(name, load(arguments) if isinstance(arguments, str) else arguments)


def make_call(name: Any, arguments: Any) -> Call | None:
    """A call, if the name is a text and the arguments are an object that JSON can spell."""
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return None
    try:
        name.encode()
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which no message can carry
        text = json.dumps(arguments)
        return Call(name, text) if name.isascii() else None
    except (RecursionError, ValueError, TypeError):  # too deep, infinite (1e999), or no JSON at all
        return None
    return Call(name, text)


def load(text: str) -> Any:
    """A JSON value, line breaks in strings allowed as models write them; None for anything else."""
    try:
        return json.loads(text, strict=False, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
