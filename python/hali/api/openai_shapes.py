"""The shapes of OpenAI's answers, for the OpenAPI document; tests read every answer by them, strictly."""

from __future__ import annotations

from typing import Literal

import msgspec

Finish = Literal["stop", "length", "tool_calls", "function_call"]


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    """An object that has no other fields than these."""


class ModelObject(Shape):
    """A model that can answer; the last three fields are hali's own."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    sha256: str
    size: int
    aliases: list[str]


class ModelList(Shape):
    """All models."""

    object: Literal["list"]
    data: list[ModelObject]


class CachedTokens(Shape):
    """Of the prompt, those that were in the KV cache already."""

    cached_tokens: int


class ReasoningTokens(Shape):
    """Of the reply, those that were thoughts."""

    reasoning_tokens: int


class CompletionUsage(Shape):
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: ReasoningTokens


class AlternativeToken(Shape):
    """A likely token."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(Shape):
    """A token of a reply and what else was likely at its place."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[AlternativeToken]


class ChatLogprobs(Shape):
    """The tokens of a reply."""

    content: list[ChosenToken]
    refusal: None


class FunctionCall(Shape):
    """A call with the JSON text of its arguments."""

    name: str
    arguments: str


class MadeCall(Shape):
    """A call that the model wants made."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AssistantMessage(Shape):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[MadeCall] | None = None
    function_call: FunctionCall | None = None


class ChatChoice(Shape):
    """One reply."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(Shape):
    """The answer of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: CompletionUsage


class TextLogprobs(Shape):
    """The tokens of a text, in lists side by side."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Shape):
    """One text."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Finish


class TextCompletion(Shape):
    """The answer of /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: CompletionUsage
