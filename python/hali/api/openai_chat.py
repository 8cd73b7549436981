"""What POST /v1/chat/completions takes, and what of it hali can honour.

What it cannot, and what would change the answer, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hali.model.errors import UsageError
from hali.model.generation import GenerateRequest, Message, SamplingParams

MAX_STOPS = 4  # OpenAI's limit
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
# `developer` is OpenAI's new name of `system`; templates know only the old one.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Part(msgspec.Struct):
    """A piece of a message; only text has a meaning here."""

    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct):
    """One turn, as sent."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: Any = None
    function_call: Any = None


class StreamOptions(msgspec.Struct):
    """How to stream."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    """The body. Fields that are not named here are ignored: they do not change what a model of ours says."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[int, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    # llama.cpp's and vLLM's additions
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Probability | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    # refused unless they ask for nothing
    n: int | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    grammar: Any = None
    json_schema: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    structured_outputs: Any = None


def _given(value: Any) -> bool:
    return value not in (None, [], {}, "")


def _not_text(value: Any) -> bool:
    return value is not None and (not isinstance(value, dict) or value.get("type") != "text")


# field → True when its value asks for something hali cannot do yet
_REFUSED: dict[str, Callable[[Any], bool]] = {
    "n": lambda n: n not in (None, 1),
    "tools": _given,
    "functions": _given,
    "tool_choice": lambda choice: choice not in (None, "none", "auto"),
    "function_call": lambda choice: choice not in (None, "none", "auto"),
    "logprobs": bool,
    "top_logprobs": bool,
    "response_format": _not_text,
    "modalities": lambda kinds: kinds not in (None, [], ["text"]),
    **dict.fromkeys(("audio", "web_search_options", "grammar", "json_schema", "structured_outputs"), _given),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), _given),
}


def generate_request(body: ChatRequest) -> GenerateRequest:
    """What the engine is asked; `UsageError` (code `unsupported` or `invalid_value`) naming the field."""
    for name, asks in _REFUSED.items():
        if asks(getattr(body, name)):
            raise _unsupported(name, f"{name} is not supported by this version of hali")
    if not body.messages:
        raise _invalid("messages", "messages: at least one is needed")
    messages = tuple(_message(message, index) for index, message in enumerate(body.messages))
    return GenerateRequest(messages=messages, sampling=_sampling(body))


def _message(message: ChatMessage, index: int) -> Message:
    where = f"messages[{index}]"
    if message.role in ("tool", "function") or _given(message.tool_calls) or _given(message.function_call):
        raise _unsupported(where, f"{where}: tools are not supported by this version of hali")
    if message.role not in _ROLES:
        raise _invalid(f"{where}.role", f"{where}.role: {message.role[:40]!r} is not one of {', '.join(_ROLES)}")
    return Message(role=_ROLES[message.role], content=_text(message.content, f"{where}.content"), name=message.name)


def _text(content: str | list[Part] | None, where: str) -> str:
    if content is None:
        raise _invalid(where, f"{where}: text is missing")
    if isinstance(content, str):
        return content
    for part in content:
        if part.type != "text":
            raise _unsupported(where, f"{where}: parts of type {part.type[:40]!r} are not supported, only text")
    return "".join(part.text or "" for part in content)


def _sampling(body: ChatRequest) -> SamplingParams:
    named = {name: getattr(body, name) for name in SamplingParams.__struct_fields__ if hasattr(body, name)}
    given = {name: value for name, value in named.items() if value is not None}
    given["stop"] = _stops(body.stop)
    if body.max_completion_tokens is not None:  # the new name of max_tokens wins where both are sent
        given["max_tokens"] = body.max_completion_tokens
    return SamplingParams(**given)


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS or "" in stops:
        raise _invalid("stop", f"stop: at most {MAX_STOPS} strings, none of them empty")
    return stops


def _invalid(param: str, message: str) -> UsageError:
    return UsageError(message, code="invalid_value", details={"param": param})


def _unsupported(param: str, message: str) -> UsageError:
    return UsageError(message, code="unsupported", details={"param": param})
