"""Calls of tools whose arguments stand between tags. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hali.engine.tool_bodies import Call, Outcome, Schemas, closed, load, make_call


@dataclass(frozen=True)
class Tags:
    """How arguments between tags are spelled: patterns with the groups name, and key and value."""

    begin: str  # "" = a name begins at once
    end: str
    name: re.Pattern[str]
    argument: re.Pattern[str]
    closings: tuple[str, ...] = ()


class TaggedBody:
    """Arguments between tags, as Qwen3-Coder and GLM have them; texts stay as they are where the schema wants a string."""

    def __init__(self, tags: Tags, schemas: Schemas) -> None:
        self._tags, self._schemas = tags, schemas
        self._seen = 0  # so far the end was not found

    def read(self, text: str, final: bool) -> Outcome:
        """See Body."""
        head, tags = text.lstrip(), self._tags
        if head and not self._may_begin(head):
            return "wrong"
        at = text.find(tags.end, max(0, self._seen - len(tags.end)))
        if at < 0:
            self._seen = len(text)
            return "wrong" if final else "more"
        call = self._parse(head[: at - (len(text) - len(head))])
        return "wrong" if call is None else closed(text, (call,), at + len(tags.end), tags.closings, final)

    def _may_begin(self, head: str) -> bool:
        begin = self._tags.begin
        return head.startswith(begin) or begin.startswith(head) if begin else head[0] not in "{[<"

    def _parse(self, text: str) -> Call | None:
        match = self._tags.name.match(text)
        if match is None:
            return None
        name = match["name"].strip()
        properties = self._schemas.get(name, {}).get("properties", {})
        values = {}
        for part in self._tags.argument.finditer(text, match.end()):
            schema = properties.get(part["key"]) if isinstance(properties, dict) else None
            values[part["key"]] = _typed(part["value"], schema)
        return make_call(name, values)


def _typed(text: str, schema: Any) -> Any:
    """The value that a text stands for: itself for a string, else JSON if it is some."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    bare = text.strip()
    if kind == "string" or (isinstance(kind, list) and "string" in kind and bare != "null"):
        return text
    value = load(text)
    return text if value is None and bare != "null" else value
