"""What POST /v1/messages answers: the events of a stream, and the whole message folded from the very same events."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import msgspec

from hali.api.dialects import anthropic_body
from hali.api.endings import ended, unfinished
from hali.model.errors import HaliError
from hali.model.generation import Chunk, Done, GenerationEvent, ToolCalled, Usage
from hali.pipeline.base import ServedModel

Event = dict[str, Any]
_UNKNOWN = Usage(0, 0, None, 0.0)
_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}


def sse(event: Event) -> bytes:
    """One server-sent event, named by its type."""
    return f"event: {event['type']}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"


def failed(error: HaliError) -> bytes:
    """An error in the middle of a stream."""
    return b"event: error\ndata: " + msgspec.json.encode(anthropic_body(error)) + b"\n\n"


def usage_of(usage: Usage) -> dict[str, Any]:
    """Tokens as Anthropic counts them: what came from the cache is not in `input_tokens`."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def stop_of(done: Done) -> dict[str, str | None]:
    """`stop_reason` and `stop_sequence`; a reply that somebody stopped is an error, or it would pass for a whole one."""
    if done.stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": done.stop}
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    return {"stop_reason": reasons[ended(done).reason], "stop_sequence": None}


class _Blocks:
    """The content blocks of one reply, one open at a time."""

    def __init__(self) -> None:
        self._index = -1
        self._open: str | None = None

    def text(self, kind: str, text: str) -> Iterator[Event]:
        """More text of a block of `kind` (`text` or `thinking`), begun if it is not open."""
        if self._open != kind:
            block = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
            yield from self._begin(kind, block)
        delta, field = _DELTAS[kind]
        yield self._delta({"type": delta, field: text})

    def call(self, called: ToolCalled) -> Iterator[Event]:
        """A whole call."""
        call = called.call
        yield from self._begin("tool_use", {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        yield self._delta({"type": "input_json_delta", "partial_json": call.arguments or "{}"})
        yield from self.end()

    def end(self) -> Iterator[Event]:
        """Close the open block, if there is one."""
        if self._open == "thinking":  # signed by nobody, but clients wait for it
            yield self._delta({"type": "signature_delta", "signature": ""})
        if self._open is not None:
            yield {"type": "content_block_stop", "index": self._index}
        self._open = None

    def _begin(self, kind: str, block: Event) -> Iterator[Event]:
        yield from self.end()
        self._index, self._open = self._index + 1, kind
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: Event) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


async def message_events(
    events: AsyncGenerator[GenerationEvent, None], model: ServedModel, *, thoughts: bool
) -> AsyncGenerator[Event, None]:
    """The reply as Anthropic's events. Nothing is yielded before the engine's first event, so that an early failure still can
    have an HTTP status. Without `thoughts` those of the model are left out.
    """
    blocks, last = _Blocks(), None
    async with aclosing(events):
        async for item in events:
            if last is None:
                yield {"type": "message_start", "message": _begun(model, item.usage or _UNKNOWN)}
                yield {"type": "ping"}
            last = item
            for event in _told(item, blocks, thoughts):
                yield event
    if not isinstance(last, Done):
        raise unfinished()


def _told(item: GenerationEvent, blocks: _Blocks, thoughts: bool) -> Iterator[Event]:
    if isinstance(item, Done):
        stop = stop_of(item)
        yield from blocks.end()
        yield {"type": "message_delta", "delta": stop, "usage": usage_of(item.usage)}
        yield {"type": "message_stop"}
    elif isinstance(item, ToolCalled):
        yield from blocks.call(item)
    elif isinstance(item, Chunk) and item.text and (thoughts or not item.reasoning):
        yield from blocks.text("thinking" if item.reasoning else "text", item.text)


def _begun(model: ServedModel, usage: Usage) -> Event:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model.id,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_of(usage),
    }


async def message(events: AsyncIterator[Event]) -> Event:
    """The whole message, folded from the events of a stream."""
    reply: Event = {}
    texts: list[list[str]] = []
    async for event in events:
        if event["type"] == "message_start":
            reply = {**event["message"], "content": []}
        elif event["type"] == "content_block_start":
            reply["content"].append(event["content_block"])
            texts.append([])
        elif event["type"] == "content_block_delta":
            texts[-1] += [text for name, text in event["delta"].items() if name != "type"]
        elif event["type"] == "message_delta":
            reply |= {**event["delta"], "usage": event["usage"]}
    for block, parts in zip(reply["content"], texts, strict=True):
        block.update(_filled(block["type"], "".join(parts)))
    return reply


def _filled(kind: str, text: str) -> Event:
    return {"input": msgspec.Raw(text.encode())} if kind == "tool_use" else {kind: text}
