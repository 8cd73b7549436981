"""The items of the responses API: what a conversation is made of there, and the turns that they are to the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from hali.api.media import unmistakable
from hali.api.openai_messages import SPEAKERS, Part, content_of, tool_call
from hali.api.openai_reply import new_id
from hali.api.refusals import invalid, unsupported
from hali.model.errors import NotFound
from hali.model.generation import Message, Tool, ToolCall

_PREFIX = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_", "function_call_output": "fco_"}


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message, a thought, a call of a function or its result, as sent or as answered before."""

    type: str | None = None  # a message may leave it out
    id: str | None = None
    role: str | None = None
    status: str | None = None
    content: str | list[Part] | None = None
    summary: list[Part] | None = None  # of a thought
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


def references(sent: str | list[Item] | None) -> frozenset[str]:
    """The ids of the kept items that are meant."""
    items = () if isinstance(sent, str) else sent or ()
    return frozenset(item.id for item in items if item.id and _refers(item))


def items_of(
    sent: str | list[Item] | None, before: Iterable[Item] = (), kept: Mapping[str, Item] | None = None
) -> tuple[Item, ...]:
    """The items with what clients may leave out: type, id, status, and parts instead of a text.

    References stand for the items in `kept`. An id that another item has, also one of those `before`, is replaced: pages of
    items go on after an id.
    """
    if isinstance(sent, str):
        sent = [Item(role="user", content=sent)]
    made: list[Item] = []
    taken = {item.id for item in before}
    for index, item in enumerate(sent or ()):
        where = f"input[{index}]"
        if _refers(item):
            made.append(_referred(item.id, taken, kept or {}, where))
        else:
            own = msgspec.structs.replace(item, id=None) if item.id in taken else item
            made.append(_complete(own, where))
        taken.add(made[-1].id)
    return tuple(made)


def _refers(item: Item) -> bool:
    """OpenAI lets a reference leave out its type."""
    return item.type == "item_reference" or (item.type is None and item.role is None and item.id is not None)


def _referred(ident: str | None, taken: Collection[str | None], kept: Mapping[str, Item], where: str) -> Item:
    if not ident:
        raise invalid(f"{where}.id", "says which item is meant, and is missing")
    if ident in taken:  # as OpenAI; else a short body could repeat a long item without end
        raise invalid(f"{where}.id", f"the item {ident[:80]!r} is in this conversation already")
    if ident not in kept:
        raise NotFound(
            f"{where}.id: there is no item {ident[:80]!r}: only those of responses that are kept (`store`) can be referred to",
            code="item_not_found",
            details={"param": f"{where}.id"},
        )
    return kept[ident]


def _complete(item: Item, where: str) -> Item:
    kind = item.type or "message"
    if kind not in _PREFIX:
        raise unsupported(f"{where}.type", f"{kind[:40]!r} is not supported")
    if kind == "message" and item.role not in SPEAKERS:
        raise invalid(f"{where}.role", f"{str(item.role)[:40]!r} is not one of {', '.join(SPEAKERS)}")
    content = item.content
    if isinstance(content, str):
        content = [Part("output_text" if item.role == "assistant" else "input_text", content)]
    status = item.status or "completed"
    return msgspec.structs.replace(item, type=kind, id=item.id or new_id(_PREFIX[kind]), status=status, content=content)


def as_objects(items: Iterable[Item]) -> list[dict[str, Any]]:
    """The items as answers have them."""
    found: list[dict[str, Any]] = [msgspec.to_builtins(item) for item in items]
    for part in (part for item in found for part in item.get("content", ()) if part["type"] == "output_text"):
        part |= {"annotations": [], "logprobs": []}
    return found


def answered(output: Sequence[dict[str, Any]]) -> tuple[Item, ...]:
    """The items that a response has put out, for the next request that goes on from it."""
    return tuple(msgspec.convert(item, Item) for item in output)


def turns_of(items: Sequence[Item], instructions: str | None, tools: Sequence[Tool] = ()) -> tuple[Message, ...]:
    """The turns for the engine. What an assistant thought, said and called in a row is one turn of it."""
    turns = _Turns()
    if instructions:
        turns.add(Message("system", instructions))
    for index, item in enumerate(items):
        turns.take(item, f"input[{index}]")
    turns.flush()
    if not any(turn.role != "system" for turn in turns.made):
        raise invalid("input", "at least one item that is no instruction is needed")
    return unmistakable(turns.made, "input", tools)


class _Turns:
    """Turns in the making; the assistant's last one is open."""

    def __init__(self) -> None:
        self.made: list[Message] = []
        self._reasoning: list[str] = []
        self._content: str | None = None
        self._calls: list[ToolCall] = []

    def take(self, item: Item, where: str) -> None:
        """One item more."""
        if item.type == "reasoning":
            if self._content is not None or self._calls:
                self.flush()
            self._reasoning.append(_thought(item))
        elif item.type == "function_call":
            self._calls.append(_call(item, where))
        elif item.type == "function_call_output":
            self.add(_result(item, where))
        elif item.role == "assistant":
            if self._content is not None or self._calls:
                self.flush()
            self._content = _said(item, f"{where}.content")
        else:
            text, images = content_of(item.content, f"{where}.content", optional=False)
            self.add(Message(SPEAKERS[str(item.role)], text, images=images))

    def add(self, message: Message) -> None:
        """A turn of somebody else."""
        self.flush()
        self.made.append(message)

    def flush(self) -> None:
        """The assistant's turn is over, if there was one."""
        if self._content is not None or self._calls:  # a thought alone, of a reply that was cut, is no turn
            reasoning = "".join(self._reasoning) or None
            turn = Message("assistant", self._content or "", tool_calls=tuple(self._calls), reasoning=reasoning)
            self.made.append(turn)
        self._reasoning, self._content, self._calls = [], None, []


def _thought(item: Item) -> str:
    parts = item.content if isinstance(item.content, list) else None
    return "".join(part.text or "" for part in parts or item.summary or ())


def _said(item: Item, where: str) -> str:
    text, images = content_of(item.content, where, optional=False)
    if images:
        raise invalid(where, "an assistant says text and refusals, no images")
    return text


def _call(item: Item, where: str) -> ToolCall:
    if not item.call_id or not item.name:
        raise invalid(where, "a function_call needs call_id and name")
    return tool_call(item.call_id, item.name, item.arguments or "", f"{where}.arguments")


def _result(item: Item, where: str) -> Message:
    if not item.call_id:
        raise invalid(f"{where}.call_id", "says which call this answers, and is missing")
    text, images = content_of(item.output, f"{where}.output", optional=False)
    return Message("tool", text, tool_call_id=item.call_id, images=images)
