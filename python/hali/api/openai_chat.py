"""What POST /v1/chat/completions takes, and what of it hali can honour.

What it cannot, and what would change the answer, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hali.api import openai_sampling
from hali.api.openai_format import reply_format
from hali.api.openai_messages import ChatMessage, messages_of
from hali.api.openai_sampling import Count, SamplingFields, sampling, with_seed
from hali.api.openai_tools import (
    Choice,
    Function,
    FunctionName,
    ToolSpec,
    ToolUse,
    declared,
    function,
    must_call,
    tool_use,
)
from hali.api.refusals import Asks, given, invalid, other_than, refuse
from hali.model.generation import GenerateRequest, Message

MAX_REPLIES = 128  # OpenAI's limit of n
Replies = Annotated[int, Meta(ge=1, le=MAX_REPLIES)]
Alternatives = Annotated[int, Meta(ge=0, le=20)]  # OpenAI's limit of top_logprobs


class StreamOptions(msgspec.Struct):
    """How to stream."""

    include_usage: bool | None = None


class ChatRequest(SamplingFields, kw_only=True):
    """The body. Fields that are not named here are ignored: they do not change what a model of ours says."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Count | None = None
    n: Replies | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None  # the old form of tools
    function_call: str | FunctionName | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # llama.cpp and vLLM
    reasoning_effort: str | None = None
    # refused unless they ask for nothing
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None
    add_generation_prompt: bool | None = None  # Transformers and vLLM
    continue_final_message: bool | None = None
    chat_template: Any = None
    echo: Any = None


_REFUSED: dict[str, Asks] = {
    **openai_sampling.REFUSED,
    **dict.fromkeys(("audio", "chat_template", "echo"), given),
    "modalities": other_than([], ["text"]),
    "web_search_options": other_than(),  # {} asks for a search
}


def generate_requests(body: ChatRequest) -> list[GenerateRequest]:
    """What the engine is asked, once for each of the `n` replies; `UsageError` naming the field it cannot honour."""
    refuse(body, _REFUSED)
    use = _tool_use(body)
    messages = messages_of(body.messages, use.tools)
    one = GenerateRequest(
        messages=messages,
        sampling=sampling(body, body.max_completion_tokens),  # the new name of max_tokens wins
        tools=use.tools,
        tool_choice=use.tool_choice,
        tool_name=use.tool_name,
        parallel_tool_calls=use.parallel_tool_calls,
        format=reply_format(body),
        logprobs=_logprobs(body),
        template_kwargs=template_kwargs(body.chat_template_kwargs, body.reasoning_effort),
        goes_on=_goes_on(body, messages),
    )
    return [
        msgspec.structs.replace(one, sampling=with_seed(one.sampling, index), again=index > 0)
        for index in range(body.n or 1)
    ]


def _goes_on(body: ChatRequest, messages: Sequence[Message]) -> bool:
    """Whether the reply is the rest of the last turn, as vLLM has it; `UsageError` where it cannot be."""
    if not body.continue_final_message:
        if body.add_generation_prompt is False:
            raise invalid(
                "add_generation_prompt", "without it nothing says whose turn it is; see continue_final_message"
            )
        return False
    if body.add_generation_prompt:
        raise invalid("continue_final_message", "excludes add_generation_prompt")
    if not messages or messages[-1].role != "assistant" or messages[-1].tool_calls or not messages[-1].content.strip():
        raise invalid("continue_final_message", "the last turn must be a text of the assistant")
    return True


def template_kwargs(sent: dict[str, Any] | None, effort: str | None) -> dict[str, Any]:
    """Variables of the chat template: templates of models that think read the effort, or whether to think at all."""
    if effort is None:
        return sent or {}
    thinking = {"enable_thinking": False} if effort == "none" else {}
    return {"reasoning_effort": effort, **thinking, **(sent or {})}


def _logprobs(body: ChatRequest) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs", "needs logprobs: true")
    return (body.top_logprobs or 0) if body.logprobs else None


def _tool_use(body: ChatRequest) -> ToolUse:
    if not body.functions and not given(body.function_call):
        return tool_use(body.tools, body.tool_choice, body.parallel_tool_calls)
    if body.tools:
        raise invalid("functions", "cannot be combined with tools, their new form")
    sent = enumerate(body.functions or ())
    tools = declared(tuple(function(each, f"functions[{index}]") for index, each in sent), "functions")
    if isinstance(body.function_call, FunctionName):
        return must_call(tools, body.function_call.name, "function_call", parallel=False)
    if body.function_call not in (None, "auto", "none"):
        raise invalid("function_call", "must be auto, none or a function")
    return ToolUse(tools, "none" if body.function_call == "none" else "auto", None, parallel_tool_calls=False)
