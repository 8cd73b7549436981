"""What POST /v1/chat/completions answers: one JSON object, or the same as server-sent events, field for field as
OpenAI sends them.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from hali._version import __version__
from hali.model.errors import Cancelled
from hali.model.generation import Chunk, Done, GenerationEvent, Usage
from hali.pipeline.base import ServedModel

DONE = b"data: [DONE]\n\n"


class Frame(msgspec.Struct, frozen=True):
    """What all objects of one reply have in common."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def new(cls, model: ServedModel) -> Frame:
        """For a new reply.

        The fingerprint changes with the file and with hali, as either may change the answer to the same seed.
        """
        build = hashlib.sha256(f"{__version__} {model.sha256}".encode()).hexdigest()
        return cls(f"chatcmpl-{secrets.token_hex(14)}", int(time.time()), model.id, f"fp_{build[:10]}")

    def object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """The fields every object begins with."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


def event(data: Any) -> bytes:
    """One server-sent event; JSON from msgspec has no line break."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def usage_of(usage: Usage) -> dict[str, int]:
    """Tokens as OpenAI counts them."""
    total = usage.prompt_tokens + usage.completion_tokens
    return {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens, "total_tokens": total}


def finish_reason(done: Done) -> str:
    """`stop` or `length`; a reply that somebody stopped is an error, or it would pass for a whole one."""
    if done.reason == "cancelled":
        raise Cancelled("the generation was cancelled")
    return done.reason


async def completion(events: AsyncGenerator[GenerationEvent, None], frame: Frame) -> dict[str, Any]:
    """The whole reply."""
    texts: list[str] = []
    async with aclosing(events):
        async for item in events:
            if isinstance(item, Chunk):
                texts.append(item.text)
            elif isinstance(item, Done):
                message = {"role": "assistant", "content": "".join(texts), "refusal": None}
                choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(item)}
                return {**frame.object("chat.completion", [choice]), "usage": usage_of(item.usage)}
    raise Cancelled("the generation ended without a result")


async def completion_events(
    events: AsyncGenerator[GenerationEvent, None], frame: Frame, *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The reply as events: the role first, then text, then why it ended, then (if asked) the usage, then [DONE].

    Nothing is yielded before the engine's first event, so that an early failure still can have an HTTP status.
    """

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        extra: dict[str, Any] = {"usage": None} if include_usage else {}
        return event({**frame.object("chat.completion.chunk", [choice]), **extra})

    first = True
    async with aclosing(events):
        async for item in events:
            if first:
                yield chunk({"role": "assistant", "content": "", "refusal": None})
                first = False
            if isinstance(item, Done):
                yield chunk({}, finish_reason(item))
                if include_usage:
                    yield event({**frame.object("chat.completion.chunk", []), "usage": usage_of(item.usage)})
                yield DONE
            elif isinstance(item, Chunk) and item.text:
                yield chunk({"content": item.text})
