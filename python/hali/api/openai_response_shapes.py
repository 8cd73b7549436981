"""The shapes of the responses API's answers, for the OpenAPI document; tests read every answer by them, strictly."""

from __future__ import annotations

from typing import Any, Literal

from hali.api.openai_shapes import ChosenToken, ReasoningTokens, Shape

Progress = Literal["in_progress", "completed", "incomplete"]


class OutputText(Shape, tag="output_text"):
    """A text of the answer."""

    text: str
    annotations: list[Any]
    logprobs: list[ChosenToken]


class ReasoningText(Shape, tag="reasoning_text"):
    """A thought."""

    text: str


class OutputMessage(Shape, tag="message"):
    """What the model said."""

    id: str
    role: Literal["assistant"]
    status: Progress
    content: list[OutputText]


class OutputReasoning(Shape, tag="reasoning"):
    """What the model thought."""

    id: str
    status: Progress
    summary: list[Any]
    content: list[ReasoningText]


class OutputCall(Shape, tag="function_call"):
    """A call that the model wants made."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Progress


class InputTokens(Shape):
    """Of the input, those that were in the KV cache already and those that are now."""

    cached_tokens: int
    cache_write_tokens: int


class ResponseUsage(Shape):
    """Tokens of one response."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseFailure(Shape):
    """Why a response failed."""

    message: str
    type: str
    param: str | None
    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class WhyIncomplete(Shape):
    """Why a response was cut."""

    reason: Literal["max_output_tokens"]


class ResponseObject(Shape):
    """The answer of /v1/responses."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    error: ResponseFailure | None
    incomplete_details: WhyIncomplete | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputReasoning | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: dict[str, Any]
    service_tier: Literal["default"]
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: None


class InputTokenCount(Shape):
    """How many tokens an input has."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ResponseDeleted(Shape):
    """A response is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemPage(Shape):
    """Some of the items that a response answered."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
