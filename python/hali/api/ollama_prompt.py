"""From Ollama's bodies to a generation. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hali.api.media import image_of, unmistakable, with_images
from hali.api.ollama_request import ChatBody, ChatMessage, GenerateBody, Generation, Options, ToolSpec
from hali.api.refusals import invalid, unsupported
from hali.api.tool_schemas import object_schema
from hali.model.generation import MAX_STOPS, GenerateRequest, Message, ReplyFormat, SamplingParams, Tool, ToolCall

# Ollama's api/types.go, DefaultOptions: what its clients count on when they send nothing.
_DEFAULTS = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "repeat_penalty": 1.1, "repeat_last_n": 64}
_REFUSED = {
    "suffix": "filling in the middle is not supported",
    "template": "another template than the model's own is not supported; send `raw` and the whole prompt",
    "context": "hali gives out no context to go on from; send the conversation to /api/chat",
}


def chat_request(body: ChatBody) -> GenerateRequest:
    """What the engine is asked by POST /api/chat; `UsageError` naming the field."""
    tools = tuple(_tool(spec, f"tools[{index}]") for index, spec in enumerate(body.tools or ()))
    messages = unmistakable(_turns(body.messages or []), tools=tools)
    last = messages[-1] if messages else None
    goes_on = last is not None and last.role == "assistant" and bool(last.content.strip()) and not last.tool_calls
    return _request(body, messages=messages, tools=tools, goes_on=goes_on)


def generate_request(body: GenerateBody) -> GenerateRequest:
    """What the engine is asked by POST /api/generate; `UsageError` naming the field."""
    for name, why in _REFUSED.items():
        if getattr(body, name):
            raise unsupported(name, why)
    if body.raw:
        if body.images or body.system:
            raise invalid("raw", "a raw prompt is the whole of it: no system, no images")
        return _request(body, prompt=body.prompt or "")
    system = [Message("system", body.system)] if body.system else []
    turn = _with_images("user", body.prompt or "", body.images, "images")
    return _request(body, messages=unmistakable([*system, turn]))


def _request(body: Generation, **what: Any) -> GenerateRequest:
    return GenerateRequest(
        sampling=_sampling(body.options or Options()),
        format=_format(body.format),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        template_kwargs=_template_kwargs(body.think),
        **what,
    )


def _template_kwargs(think: bool | str | None) -> dict[str, Any]:
    if think is None:  # the model's own habit
        return {}
    return {"enable_thinking": bool(think), **({"reasoning_effort": think} if isinstance(think, str) else {})}


def _format(wanted: str | dict[str, Any] | None) -> ReplyFormat | None:
    if not wanted:
        return None
    if isinstance(wanted, str) and wanted != "json":
        raise invalid("format", "`json` or a JSON schema")
    return ReplyFormat(schema={"type": "object"} if isinstance(wanted, str) else wanted)


def _sampling(options: Options) -> SamplingParams:
    named = {name: getattr(options, name) for name in SamplingParams.__struct_fields__ if hasattr(options, name)}
    given = {**_DEFAULTS, **{name: value for name, value in named.items() if value is not None}}
    stops = (options.stop,) if isinstance(options.stop, str) else tuple(options.stop or ())
    if len(stops) > MAX_STOPS:
        raise invalid("options.stop", f"at most {MAX_STOPS} strings")
    limit = options.num_predict
    if limit == 0:
        raise invalid("options.num_predict", "0 would be no answer; below 0 is without a limit")
    return SamplingParams(
        **{
            **given,
            "top_k": max(given["top_k"], 0),
            "seed": None if options.seed is None or options.seed < 0 else options.seed,
            "max_tokens": limit if limit is not None and limit > 0 else None,
            "stop": tuple(stop for stop in stops if stop),
        }
    )


# ---- turns


def _turns(messages: list[ChatMessage]) -> Iterator[Message]:
    """A tool's answer belongs to the call it names by id, else to the first unanswered one of its name, else to the first.

    One that follows no such call is taken too, as by Ollama, which asks for no order.
    """
    open_calls = _OpenCalls(())
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role == "tool":
            yield _answer(message, open_calls, where, f"call_{index}")
            continue
        calls = tuple(_call(call, f"call_{index}_{n}") for n, call in enumerate(message.tool_calls or ()))
        open_calls = _OpenCalls(calls) if calls else open_calls
        turn = _with_images(message.role, message.content or "", message.images, where)
        yield msgspec.structs.replace(turn, tool_calls=calls, reasoning=message.thinking)


class _OpenCalls:
    """Calls that await their answers. One is found without a look at the others: a body has room for 200,000."""

    def __init__(self, calls: Sequence[ToolCall]) -> None:
        self._calls = calls
        self._answered: set[int] = set()
        self._places: defaultdict[tuple[str, str | None], deque[int]] = defaultdict(deque)
        for place, call in enumerate(calls):
            for key in _keys(call.id, call.name):
                self._places[key].append(place)

    def take(self, ident: str | None, name: str | None) -> ToolCall | None:
        """The first one of this id, else of this name, else of all."""
        for key in _keys(ident, name):
            places = self._places.get(key, deque())
            while places:
                if (place := places.popleft()) not in self._answered:
                    self._answered.add(place)
                    return self._calls[place]
        return None


def _keys(ident: str | None, name: str | None) -> tuple[tuple[str, str | None], ...]:
    return ("id", ident), ("name", name), ("any", None)


def _answer(message: ChatMessage, open_calls: _OpenCalls, where: str, number: str) -> Message:
    found = open_calls.take(message.tool_call_id, message.tool_name)
    name, call = (found.name, found.id) if found else (message.tool_name or "", message.tool_call_id or number)
    turn = _with_images("tool", message.content or "", message.images, where)
    return msgspec.structs.replace(turn, name=name, tool_call_id=call)


def _call(call: Any, number: str) -> ToolCall:
    arguments = msgspec.json.encode(call.function.arguments).decode()
    return ToolCall(call.id or number, call.function.name, arguments)


def _with_images(role: str, text: str, images: list[str] | None, where: str) -> Message:
    """Ollama has no place for an image inside a text: they come before it."""
    content, files = with_images([*(image_of(image, where) for image in images or ()), text])
    return Message(role, content, images=files)


def _tool(spec: ToolSpec, where: str) -> Tool:
    if spec.type not in (None, "function"):
        raise unsupported("tools", f"tools of type {spec.type[:80]!r} are not supported")
    function = spec.function
    parameters = object_schema(function.parameters, f"{where}.function.parameters")
    return Tool(function.name, function.description, parameters)
