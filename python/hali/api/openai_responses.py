"""What POST /v1/responses takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hali.api import openai_sampling
from hali.api.openai_chat import Alternatives, template_kwargs
from hali.api.openai_format import ResponseFormat, of_response_format, reply_format
from hali.api.openai_items import Item, turns_of
from hali.api.openai_reply import new_id
from hali.api.openai_sampling import Count, SamplingFields, sampling
from hali.api.openai_tools import Choice, ToolSpec, tool_use
from hali.api.refusals import Asks, given, invalid, other_than, refuse
from hali.model.generation import GenerateRequest, ReplyFormat

WITH_LOGPROBS = "message.output_text.logprobs"
# OpenAI's limits of metadata: 16 pairs, keys of 64 characters, values of 512
Label = Annotated[str, Meta(max_length=64)]
Note = Annotated[str, Meta(max_length=512)]


class Reasoning(msgspec.Struct, omit_defaults=True):
    """How much to think."""

    effort: str | None = None
    summary: str | None = None


class TextOptions(msgspec.Struct):
    """What the text must look like."""

    format: ResponseFormat | None = None


class ResponsesRequest(SamplingFields, kw_only=True):
    """The body. Fields that are not named here are ignored: they do not change what a model of ours says."""

    model: str
    input: str | list[Item] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: Annotated[dict[Label, Note], Meta(max_length=16)] | None = None
    max_output_tokens: Count | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = None
    top_logprobs: Alternatives | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # refused unless they ask for nothing
    conversation: Any = None
    prompt: Any = None
    truncation: Any = None


_REFUSED: dict[str, Asks] = {
    **openai_sampling.REFUSED,
    "conversation": given,
    "prompt": given,
    "truncation": other_than("disabled"),
}


def wants_logprobs(body: ResponsesRequest) -> bool:
    """They are asked for by `include`, or by a number of alternatives."""
    return body.top_logprobs is not None or WITH_LOGPROBS in (body.include or ())


def response_request(body: ResponsesRequest, items: Sequence[Item]) -> GenerateRequest:
    """What the engine is asked about the conversation `items`; `UsageError` naming the field it cannot honour."""
    refuse(body, _REFUSED)
    if body.background and body.store is False:
        raise invalid("background", "needs store: a response that is not kept could not be fetched")
    use = tool_use(body.tools, body.tool_choice, body.parallel_tool_calls)
    return GenerateRequest(
        messages=turns_of(items, body.instructions, use.tools),
        sampling=sampling(body, body.max_output_tokens),
        tools=use.tools,
        tool_choice=use.tool_choice,
        tool_name=use.tool_name,
        parallel_tool_calls=use.parallel_tool_calls,
        format=_format(body),
        logprobs=(body.top_logprobs or 0) if wants_logprobs(body) else None,
        template_kwargs=template_kwargs(body.chat_template_kwargs, body.reasoning.effort if body.reasoning else None),
    )


def _format(body: ResponsesRequest) -> ReplyFormat | None:
    asked = body.text.format if body.text else None
    told, other = of_response_format(asked, "text.format") if asked else None, reply_format(body)
    if told and other:
        raise invalid("text.format", "cannot be combined with another format")
    return told or other


def response_head(body: ResponsesRequest, model: str) -> dict[str, Any]:
    """The response before anything was said: what OpenAI's objects repeat of their request."""
    form = body.text.format if body.text else None
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued" if body.background else "in_progress",
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "metadata": body.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": msgspec.to_builtins(body.reasoning or Reasoning()),
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": _plain(form) if form else {"type": "text"}},
        "tool_choice": "auto" if body.tool_choice is None else _without_none(msgspec.to_builtins(body.tool_choice)),
        "tools": [_plain(tool) for tool in body.tools or ()],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def _plain(value: Any) -> Any:
    """As it was sent: without the fields that stand for other dialects' shapes."""
    built = msgspec.to_builtins(value)
    return {k: v for k, v in built.items() if v is not None} if isinstance(built, dict) else built


def _without_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
