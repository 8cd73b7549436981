"""A small model calls a tool when it has seen it done, and prompts come as chats, texts and tokens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.errors import UsageError
from hali.model.generation import (
    Chunk,
    Done,
    GenerateRequest,
    GenerationEvent,
    Message,
    Render,
    SamplingParams,
    Tokenize,
    Tokens,
    Tool,
    ToolCall,
    ToolCalled,
)

pytestmark = pytest.mark.model

WEATHER = Tool("get_weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
GREEDY = SamplingParams(temperature=0, max_tokens=60)


def _turn(city: str) -> tuple[Message, ...]:
    call = ToolCall(f"call_{city}", WEATHER.name, json.dumps({"city": city}))
    return (
        Message("user", f"What is the weather in {city}?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", '{"sky": "blue"}', tool_call_id=call.id),
        Message("assistant", f"The sky in {city} is blue."),
    )


ASKED = GenerateRequest(
    messages=(*_turn("Paris"), *_turn("Rome"), *_turn("Oslo"), Message("user", "What is the weather in Berlin?")),
    tools=(WEATHER,),
    sampling=GREEDY,
)


PARAMETERS = {
    "type": "object",
    "properties": {"zone": {"$ref": "#/$defs/zone"}},
    "required": ["zone"],
    "additionalProperties": False,
    "$defs": {"zone": {"enum": ["UTC", "CET"]}},
}
TIME = Tool("get_time", "Tells the time.", PARAMETERS)


async def _reply(engine: EngineProcess, request: GenerateRequest) -> list[GenerationEvent]:
    return [event async for event in engine.generate(request)]


async def test_a_model_calls_a_tool_and_prompts_come_in_three_forms(smollm2: Path) -> None:
    engine = EngineProcess("smollm2")
    await engine.start(smollm2, EngineOptions(threads=1))
    try:
        called, done = await _reply(engine, ASKED)
        assert isinstance(called, ToolCalled) and isinstance(done, Done)
        assert (called.index, called.call.name) == (0, WEATHER.name)
        assert json.loads(called.call.arguments) == {"city": "Berlin"}
        assert done.reason == "tool_calls" and done.usage.completion_tokens == called.tokens

        prompt = await engine.ask(Render(ASKED))
        assert isinstance(prompt, Tokens) and len(prompt.tokens) == done.usage.prompt_tokens
        assert f'"name": "{WEATHER.name}"' in prompt.text and prompt.text.endswith("<|im_start|>assistant\n")

        text = await engine.ask(Tokenize("Once upon a time", add_special=True))
        assert isinstance(text, Tokens)
        few = SamplingParams(temperature=0, max_tokens=8)
        of_text = await _reply(engine, GenerateRequest(prompt="Once upon a time", sampling=few))
        of_tokens = await _reply(engine, GenerateRequest(tokens=text.tokens, sampling=few))
        assert _text(of_text) == _text(of_tokens) != ""
    finally:
        await engine.stop()


async def test_a_tool_is_called_where_one_has_to_be(smollm2: Path) -> None:
    asked = GenerateRequest(
        messages=(Message("user", "What time is it?"),),
        tools=(WEATHER, TIME),
        tool_choice="required",
        tool_name=TIME.name,
        sampling=GREEDY,
    )
    engine = EngineProcess("smollm2")
    await engine.start(smollm2)
    try:
        called, done = await _reply(engine, asked)
        assert isinstance(called, ToolCalled) and called.call.name == TIME.name
        assert json.loads(called.call.arguments)["zone"] in ("UTC", "CET")
        assert isinstance(done, Done) and done.reason == "tool_calls"

        one_of_them = await _reply(engine, msgspec.structs.replace(asked, tool_name=None))
        assert [type(event) for event in one_of_them] == [ToolCalled, Done]
    finally:
        await engine.stop()


async def test_a_call_that_has_to_be_made_is_made_without_a_schema_that_no_grammar_says_unless_strict(
    smollm2: Path,
) -> None:
    kinds = {"type": "object", "properties": {"kinds": {"type": "array", "uniqueItems": True}}}
    asked = GenerateRequest(
        messages=(Message("user", "What kinds of weather are there?"),),
        tools=(Tool("list_kinds", "Lists kinds.", kinds),),
        tool_choice="required",
        sampling=GREEDY,
    )
    strict = msgspec.structs.replace(asked, tools=(Tool("list_kinds", "Lists kinds.", kinds, strict=True),))
    bare = msgspec.structs.replace(asked, tools=(Tool("list_kinds", "Lists kinds."),))
    engine = EngineProcess("smollm2")
    await engine.start(smollm2)
    try:
        begun, done = await _reply(engine, asked)  # this model goes on and on, so the call is not whole
        assert isinstance(begun, Chunk) and isinstance(done, Done)
        assert re.match(r'\{\s*"name": "list_kinds",\s*"arguments": \{', begun.text)
        with pytest.raises(UsageError, match="uniqueItems"):
            await _reply(engine, strict)
        called, _ = await _reply(engine, bare)
        assert isinstance(called, ToolCalled) and called.call.arguments == "{}"
    finally:
        await engine.stop()


async def test_a_schema_that_no_grammar_says_frees_no_other_tools_arguments(smollm2: Path) -> None:
    tags = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}
    loose, strict = Tool("set_tags", "Sets tags.", tags), msgspec.structs.replace(TIME, strict=True)
    asked = msgspec.structs.replace(ASKED, tools=(TIME, loose), tool_choice="required")
    engine = EngineProcess("smollm2")
    await engine.start(smollm2)
    try:
        for tools in ((TIME, loose), (loose, strict)):
            called, _ = await _reply(engine, msgspec.structs.replace(asked, tools=tools))
            assert isinstance(called, ToolCalled) and called.call.name == TIME.name
            assert json.loads(called.call.arguments)["zone"] in ("UTC", "CET")
    finally:
        await engine.stop()


def _text(events: list[GenerationEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Chunk))
