"""The shapes of Anthropic's answers, for the OpenAPI document; tests read every answer by them, strictly."""

from __future__ import annotations

from typing import Any, Literal

from hali.api.openai_shapes import Shape


class SaidText(Shape, tag="text"):
    """A part of the answer."""

    text: str


class SaidThought(Shape, tag="thinking"):
    """What was thought before; nobody signs it."""

    thinking: str
    signature: Literal[""]


class SaidCall(Shape, tag="tool_use"):
    """A call that the model wants made."""

    id: str
    name: str
    input: dict[str, Any]


class OutputDetails(Shape):
    """Of the reply, those that were thoughts."""

    thinking_tokens: int


class MessageUsage(Shape):
    """Tokens of one request; those that came from the cache are not in `input_tokens`."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputDetails


class SaidMessage(Shape):
    """The answer of /v1/messages."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[SaidText | SaidThought | SaidCall]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(Shape):
    """The answer of /v1/messages/count_tokens."""

    input_tokens: int
