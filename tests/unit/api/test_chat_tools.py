"""Tools in chats: what the engine is told of them, and how its calls are answered, in today's form and the old one."""

from __future__ import annotations

import pytest

from hali.model.generation import Chunk, Done, Message, Tool, ToolCall, ToolCalled, Usage
from tests.unit.api.sse import events_of

PATH = "/v1/chat/completions"
HELLO = {"model": "tiny:1m:base:q4_0", "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
PARIS = ToolCall("call_1", "weather", '{"city":"Paris"}')
ROME = ToolCall("call_2", "weather", '{"city":"Rome"}')
CALLED = Done("tool_calls", Usage(prompt_tokens=7, completion_tokens=9, ttft_s=0.1, total_s=0.2))
FUNCTION = {"name": "weather", "arguments": '{"city":"Paris"}'}
SHOWN = {"id": "call_1", "type": "function", "function": FUNCTION}


async def use(client, router, **fields):
    """(tools, choice, name, parallel) as the engine is told."""
    assert (await client.post(PATH, json={**HELLO, **fields})).status_code == 200
    asked = router.asked[-1][1]
    return [tool.name for tool in asked.tools], asked.tool_choice, asked.tool_name, asked.parallel_tool_calls


async def test_tools_reach_the_engine_whole(client, router):
    await use(client, router, tools=[WEATHER, CLOCK])
    assert router.asked[-1][1].tools == (Tool("weather", "of a city", SCHEMA), Tool("clock"))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, (["weather", "clock"], "auto", None, True)),
        ("auto", (["weather", "clock"], "auto", None, True)),
        ("none", (["weather", "clock"], "none", None, True)),
        ("required", (["weather", "clock"], "required", None, True)),
        ({"type": "function", "function": {"name": "clock"}}, (["weather", "clock"], "required", "clock", True)),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CLOCK]}},
            (["clock"], "required", None, True),
        ),
    ],
)
async def test_the_choice_of_tools_reaches_the_engine(client, router, choice, expected):
    assert await use(client, router, tools=[WEATHER, CLOCK], tool_choice=choice) == expected


async def test_calls_side_by_side_can_be_forbidden(client, router):
    assert (await use(client, router, tools=[CLOCK], parallel_tool_calls=False))[3] is False


async def test_the_old_form_means_the_same(client, router):
    functions = [WEATHER["function"]]
    assert await use(client, router, functions=functions) == (["weather"], "auto", None, False)
    assert await use(client, router, functions=functions, function_call="none") == (["weather"], "none", None, False)
    forced = await use(client, router, functions=functions, function_call={"name": "weather"})
    assert forced == (["weather"], "required", "weather", False)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported"),
        ({"tools": [{"type": "function"}]}, "tools[0]", "invalid_value"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools", "invalid_value"),
        ({"tools": [CLOCK, CLOCK]}, "tools", "invalid_value"),
        ({"tools": [CLOCK], "tool_choice": "some"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tools": [CLOCK], "tool_choice": WEATHER}, "tool_choice", "invalid_value"),
        ({"tools": [CLOCK], "tool_choice": {"type": "custom"}}, "tool_choice", "unsupported"),
        ({"tools": [CLOCK], "functions": [{"name": "f"}]}, "functions", "invalid_value"),
        ({"function_call": {"name": "f"}}, "function_call", "invalid_value"),
        ({"function_call": "some", "functions": [{"name": "f"}]}, "function_call", "invalid_value"),
    ],
)
async def test_a_wrong_tool_is_named(client, router, fields, param, code):
    response = await client.post(PATH, json={**HELLO, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert response.json()["error"]["code"] == code
    assert router.asked == []


async def test_calls_are_answered_with_a_message_without_text(client, router):
    router.script = [ToolCalled(0, PARIS, 5), ToolCalled(1, ROME, 4), CALLED]
    (choice,) = (await client.post(PATH, json={**HELLO, "tools": [WEATHER]})).json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert [call["function"]["arguments"] for call in choice["message"]["tool_calls"]] == [
        PARIS.arguments,
        ROME.arguments,
    ]
    assert choice["message"]["tool_calls"][0] == SHOWN


async def test_text_before_a_call_is_kept(client, router):
    router.script = [Chunk("Let me look.", 4), ToolCalled(0, PARIS, 5), CALLED]
    (choice,) = (await client.post(PATH, json={**HELLO, "tools": [WEATHER]})).json()["choices"]
    assert choice["message"]["content"] == "Let me look."
    assert choice["message"]["tool_calls"] == [SHOWN]


async def test_streamed_calls_have_their_index_and_their_reason(client, router):
    router.script = [ToolCalled(0, PARIS, 5), ToolCalled(1, ROME, 4), CALLED]
    *chunks, last = events_of(await client.post(PATH, json={**HELLO, "tools": [WEATHER], "stream": True}))
    assert last == "[DONE]"
    role, first, second, end = [chunk["choices"][0] for chunk in chunks]
    assert role["delta"]["role"] == "assistant"
    assert first["delta"] == {"tool_calls": [{"index": 0, **SHOWN}]}
    assert second["delta"]["tool_calls"][0]["index"] == 1
    assert (end["delta"], end["finish_reason"]) == ({}, "tool_calls")


async def test_the_old_form_is_answered_in_the_old_form(client, router):
    router.script = [ToolCalled(0, PARIS, 5), CALLED]
    body = {**HELLO, "functions": [WEATHER["function"]]}
    (choice,) = (await client.post(PATH, json=body)).json()["choices"]
    assert (choice["finish_reason"], choice["message"]["function_call"]) == ("function_call", FUNCTION)
    assert "tool_calls" not in choice["message"]
    _, said, end, _ = events_of(await client.post(PATH, json={**body, "stream": True}))
    assert said["choices"][0]["delta"] == {"function_call": FUNCTION}
    assert end["choices"][0]["finish_reason"] == "function_call"


async def test_earlier_calls_and_their_results_reach_the_engine(client, router):
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [SHOWN], "reasoning_content": "look it up"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
    ]
    await client.post(PATH, json={**HELLO, "messages": messages})
    assert router.asked[0][1].messages == (
        Message("user", "hi"),
        Message("assistant", "", tool_calls=(PARIS,), reasoning="look it up"),
        Message("tool", "rain", tool_call_id="call_1"),
    )


async def test_an_old_result_answers_the_last_call_of_its_function(client, router):
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": FUNCTION},
        {"role": "function", "name": "weather", "content": "rain"},
    ]
    await client.post(PATH, json={**HELLO, "messages": messages})
    _, call, result = router.asked[0][1].messages
    assert result == Message("tool", "rain", "weather", tool_call_id=call.tool_calls[0].id)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "name": "f", "content": "x"}, "messages[0].name"),
        ({"role": "user", "content": "x", "tool_calls": [SHOWN]}, "messages[0].tool_calls"),
        (
            {"role": "assistant", "tool_calls": [{**SHOWN, "function": {"name": "f", "arguments": "[1]"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{"}},
            "messages[0].function_call.arguments",
        ),
        ({"role": "assistant", "tool_calls": [{**SHOWN, "type": "custom"}]}, "messages[0].tool_calls[0].type"),
    ],
)
async def test_a_wrong_turn_is_named(client, message, param):
    response = await client.post(PATH, json={**HELLO, "messages": [message]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
