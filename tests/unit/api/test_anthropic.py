"""POST /v1/messages: what it takes, refuses and asks of the router; what it answers, whole and streamed."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest

from hali.api import ApiKey
from hali.model.errors import EngineCrashed, Overloaded
from hali.model.generation import (
    MEDIA,
    Chunk,
    Done,
    Message,
    Render,
    ReplyFormat,
    Tokens,
    Tool,
    ToolCall,
    ToolCalled,
    Usage,
)
from tests.fakes.pictures import png

PNG = png(2, 2)
IMAGE = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
WEATHER = {"name": "weather", "description": "Now.", "input_schema": {"type": "object", "properties": {}}}
USED = Usage(prompt_tokens=20, completion_tokens=9, ttft_s=0.1, total_s=0.2, cached_tokens=15, reasoning_tokens=4)
CALL = ToolCall("call_1", "weather", '{"city":"Oslo"}')


def user(content: object) -> dict:
    return {"role": "user", "content": content}


def assistant(content: object) -> dict:
    return {"role": "assistant", "content": content}


async def post(client, path: str = "/v1/messages", **fields):
    body = {"model": "acme/tiny", "max_tokens": 16, "messages": [user("hi")], **fields}
    return await client.post(path, json=body)


async def asked(client, router, **fields):
    """The `GenerateRequest` that a body becomes."""
    reply = await post(client, **fields)
    assert reply.status_code == 200, reply.text
    return router.asked[-1][1]


def events_of(text: str) -> list[dict]:
    """The data of server-sent events, each of which must be named by its type."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


# ---- what is asked


async def test_all_parameters_reach_the_router(client, router):
    wanted = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop_sequences": ["a", "b"]}
    sampling = (await asked(client, router, **wanted)).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert (sampling.stop, sampling.max_tokens) == (("a", "b"), 16)


@pytest.mark.parametrize(
    "system", ["Be brief.\nBe kind.", [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]]
)
async def test_the_system_prompt_is_a_string_or_blocks(client, router, system):
    request = await asked(client, router, system=system)
    assert request.messages == (Message("system", "Be brief.\nBe kind."), Message("user", "hi"))


async def test_a_round_of_tools_becomes_messages_that_templates_know(client, router):
    turns = [
        user("Oslo?"),
        assistant(
            [
                {"type": "thinking", "thinking": "Ask.", "signature": ""},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "c2", "name": "weather", "input": {}},
            ]
        ),
        user(
            [
                {"type": "text", "text": "And Rome?"},
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "Rain."}]},
                {"type": "tool_result", "tool_use_id": "c2", "content": "no such place", "is_error": True},
            ]
        ),
    ]
    request = await asked(client, router, messages=turns, tools=[WEATHER])
    calls = (ToolCall("c1", "weather", '{"city":"Oslo"}'), ToolCall("c2", "weather", "{}"))
    assert request.messages == (
        Message("user", "Oslo?"),
        Message("assistant", "Let me see.", tool_calls=calls, reasoning="Ask."),
        Message("tool", "Rain.", name="weather", tool_call_id="c1"),
        Message("tool", "Error: no such place", name="weather", tool_call_id="c2"),
        Message("user", "And Rome?"),
    )
    assert request.tools == (Tool("weather", "Now.", {"type": "object", "properties": {}}),)


async def test_neighbouring_turns_of_one_role_become_one(client, router):
    request = await asked(client, router, messages=[user("a"), user("b"), assistant("c"), assistant("d"), user("e")])
    assert [(m.role, m.content) for m in request.messages] == [("user", "a\nb"), ("assistant", "c\nd"), ("user", "e")]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", None, True)),
        ({"type": "auto"}, ("auto", None, True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", None, False)),
        ({"type": "any"}, ("required", None, True)),
        ({"type": "tool", "name": "weather"}, ("required", "weather", True)),
        ({"type": "none"}, ("none", None, True)),
    ],
)
async def test_the_choice_of_tools_is_passed_on(client, router, choice, expected):
    request = await asked(client, router, tools=[WEATHER], **({"tool_choice": choice} if choice else {}))
    assert (request.tool_choice, request.tool_name, request.parallel_tool_calls) == expected


async def test_images_are_whole_files_at_their_place(client, router):
    blocks = [
        {"type": "text", "text": "What is"},
        {"type": "image", "source": IMAGE},
        {"type": "text", "text": "this?"},
    ]
    request = await asked(client, router, messages=[user(blocks)])
    assert request.messages == (Message("user", f"What is{MEDIA}this?", images=(PNG,)),)


@pytest.mark.parametrize(
    ("thinking", "on"),
    [(None, False), ({"type": "disabled"}, False), ({"type": "enabled", "budget_tokens": 1024}, True)],
)
async def test_thinking_is_told_to_the_template(client, router, thinking, on):
    request = await asked(client, router, **({"thinking": thinking} if thinking else {}))
    assert request.template_kwargs == {"enable_thinking": on}


async def test_a_schema_and_an_effort_are_passed_on(client, router):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    request = await asked(
        client, router, output_config={"format": {"type": "json_schema", "schema": schema}, "effort": "max"}
    )
    assert request.format == ReplyFormat(schema=schema)
    assert request.template_kwargs["reasoning_effort"] == "high"
    older = await asked(client, router, output_format={"type": "json_schema", "schema": schema})
    assert older.format == ReplyFormat(schema=schema)


async def test_a_last_turn_of_the_assistant_goes_on(client, router):
    request = await asked(client, router, messages=[user("hi"), assistant("The")])
    assert request.goes_on and (request.messages[-1].role, request.messages[-1].content) == ("assistant", "The")
    assert not (await asked(client, router)).goes_on


# ---- what is refused


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [user("hi"), assistant("The ")]}, "white space"),
        ({"messages": [user("hi"), assistant(" ")]}, "no text"),
        (
            {"messages": [user("hi"), assistant("a")], "thinking": {"type": "enabled", "budget_tokens": 1024}},
            "thinking",
        ),
        ({"messages": [user("hi"), assistant("a")], "tools": [WEATHER], "tool_choice": {"type": "any"}}, "tool_choice"),
        (
            {
                "messages": [user("hi"), assistant("a")],
                "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
            },
            "output_config",
        ),
        (
            {"messages": [user([{"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/x"}}])]},
            "base64 only",
        ),
        ({"messages": [user([{"type": "image", "source": {"type": "base64", "data": "%"}}])]}, "not base64"),
        ({"messages": [user([{"type": "image", "source": {"type": "base64", "data": "aGFsaQ=="}}])]}, "must be a PNG"),
        (
            {"messages": [user([{"type": "image", "source": IMAGE}, {"type": "text", "text": MEDIA}])]},
            "beside images",
        ),
        ({"messages": [user([{"type": "document", "source": {}}])]}, "messages[0].content[0]"),
        ({"messages": [user([{"type": "tool_result", "tool_use_id": "x"}])]}, "no earlier turn"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"tools": [{"name": "bash", "type": "bash_20250124"}]}, "tools[0].type"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name"),
        ({"messages": [user([])]}, "messages[0].content"),
        ({"messages": [user("hi"), assistant([]), user("there")]}, "messages[1].content"),
        ({"tool_choice": {"type": "any"}}, "no tools"),
        ({"tools": [WEATHER, WEATHER]}, "the same name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "no tool 'other'"),
        ({"mcp_servers": [{"url": "http://10.0.0.1"}]}, "mcp_servers"),
        ({"stop_sequences": [""]}, "stop_sequences"),
    ],
)
async def test_what_cannot_be_honoured_is_a_400_that_names_it(client, router, fields, named):
    reply = await post(client, **fields)
    assert reply.status_code == 400
    assert reply.json()["type"] == "error" and reply.json()["error"]["type"] == "invalid_request_error"
    assert named in reply.json()["error"]["message"]
    assert router.asked == []


# ---- what is answered


SCRIPT = [
    Chunk("Hm", 1, reasoning=True),
    Chunk("m.", 1, reasoning=True),
    Chunk("It ", 1),
    Chunk("", 1),
    Chunk("rains.", 1),
    ToolCalled(0, CALL, 3),
    Done("tool_calls", USED),
]


async def test_a_stream_is_the_sequence_of_events_that_anthropic_sends(client, router):
    router.script = SCRIPT
    reply = await post(client, stream=True, thinking={"type": "enabled", "budget_tokens": 1024}, tools=[WEATHER])
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = events_of(reply.text)
    start, delta, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert [(e["type"], e.get("index")) for e in events] == [
        ("message_start", None), ("ping", None),
        (start, 0), (delta, 0), (delta, 0), (delta, 0), (stop, 0),
        (start, 1), (delta, 1), (delta, 1), (stop, 1),
        (start, 2), (delta, 2), (stop, 2),
        ("message_delta", None), ("message_stop", None),
    ]  # fmt: skip
    assert [e["content_block"]["type"] for e in events if e["type"] == start] == ["thinking", "text", "tool_use"]
    kinds = [e["delta"]["type"] for e in events if e["type"] == delta]
    assert kinds == ["thinking_delta"] * 2 + ["signature_delta"] + ["text_delta"] * 2 + ["input_json_delta"]
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


async def test_message_start_counts_what_the_first_event_of_the_reply_tells(client, router):
    router.script = [
        Chunk("It ", 1, usage=Usage(20, 1, 0.1, 0.1, cached_tokens=15)),
        Chunk("rains.", 1),
        Done("stop", USED),
    ]
    begun = events_of((await post(client, stream=True)).text)[0]["message"]["usage"]
    counted = ("input_tokens", "cache_read_input_tokens", "output_tokens")
    assert tuple(begun[name] for name in counted) == (5, 15, 1)


async def test_the_whole_message_has_the_same_blocks_and_the_usage(client, router):
    router.script = SCRIPT
    reply = (await post(client, thinking={"type": "adaptive"}, tools=[WEATHER])).json()
    assert reply["content"] == [
        {"type": "thinking", "thinking": "Hmm.", "signature": ""},
        {"type": "text", "text": "It rains."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
    ]
    assert (reply["type"], reply["role"], reply["model"]) == ("message", "assistant", "tiny:1m:base:q4_0")
    assert reply["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 15,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }


@pytest.mark.parametrize("thinking", [{}, {"thinking": {"type": "adaptive", "display": "omitted"}}])
@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_that_nobody_asked_for_are_not_told(client, router, stream, thinking):
    router.script = SCRIPT
    reply = await post(client, stream=stream, **thinking)
    assert "thinking_delta" not in reply.text and "Hm" not in reply.text and "rains" in reply.text


@pytest.mark.parametrize(
    ("done", "reason", "sequence"),
    [
        (Done("stop", USED), "end_turn", None),
        (Done("length", USED), "max_tokens", None),
        (Done("stop", USED, stop="END"), "stop_sequence", "END"),
        (Done("tool_calls", USED), "tool_use", None),
    ],
)
async def test_why_it_stopped_is_told(client, router, done, reason, sequence):
    router.script = [Chunk("x", 1), done]
    reply = (await post(client)).json()
    assert (reply["stop_reason"], reply["stop_sequence"]) == (reason, sequence)


async def test_a_reply_that_somebody_stopped_is_an_error(client, router):
    router.script = [Chunk("x", 1), Done("cancelled", USED)]
    assert (await post(client)).status_code == 503
    assert events_of((await post(client, stream=True)).text)[-1]["type"] == "error"


async def test_tokens_are_counted_by_the_models_template(client, router):
    router.answers[Render] = Tokens((1, 2, 3), "<hi>")
    reply = await client.post("/v1/messages/count_tokens", json={"model": "acme/tiny", "messages": [user("hi")]})
    assert reply.json() == {"input_tokens": 3}
    ((model, query),) = router.queries
    assert model == "tiny:1m:base:q4_0" and query.request.messages == (Message("user", "hi"),)


# ---- errors


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EngineCrashed("gone"), 503, "overloaded_error"),
        (Overloaded("full", details={"retry_after_s": 3}), 503, "overloaded_error"),
        (Overloaded("slow down", code="rate_limit"), 429, "rate_limit_error"),
        (ZeroDivisionError(), 500, "api_error"),
    ],
)
async def test_errors_before_the_first_event_have_a_status_and_a_number(client, router, error, status, kind):
    for stream in (False, True):
        router.script = [error]
        reply = await post(client, stream=stream)
        assert (reply.status_code, reply.json()["error"]["type"]) == (status, kind)
        assert reply.headers["request-id"].startswith("req_")


async def test_an_error_after_the_first_event_is_an_event(client, router):
    router.script = [Chunk("x", 1), EngineCrashed("gone")]
    reply = await post(client, stream=True)
    assert reply.headers["request-id"].startswith("req_")
    last = events_of(reply.text)[-1]
    assert last["type"] == "error" and last["error"] == {"type": "overloaded_error", "message": "gone"}


async def test_an_unknown_model_is_not_found(client):
    reply = await post(client, model="nosuch")
    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found_error")


async def test_the_key_is_taken_from_x_api_key_and_its_owner_asks(deps, client_of, router):
    client = client_of(dataclasses.replace(deps, keys=(ApiKey("ann", "sk-ann", 2.0),), require_key=True))
    refused = await post(client)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    client.headers["x-api-key"] = "sk-ann"
    assert (await post(client)).status_code == 200
    assert router.keys == [("ann", 2.0)]


# ---- models


@pytest.fixture
def anthropics(client):
    client.headers["anthropic-version"] = "2023-06-01"
    return client


async def test_clients_of_anthropics_get_its_list_of_models_and_others_openais(client, anthropics):
    page = (await anthropics.get("/v1/models")).json()
    assert [(m["type"], m["id"], m["created_at"]) for m in page["data"]] == [
        ("model", "tiny:1m:base:q4_0", "2023-11-14T22:13:20Z"),
        ("model", "other:1m:base:q4_0", "2023-11-14T22:13:21Z"),
    ]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("tiny:1m:base:q4_0", "other:1m:base:q4_0", False)
    assert (await anthropics.get("/v1/models/acme/tiny")).json()["display_name"] == "tiny:1m:base:q4_0"
    assert (await anthropics.get("/v1/models/nosuch")).json()["error"]["type"] == "not_found_error"


async def test_the_list_comes_in_pages(anthropics):
    first = (await anthropics.get("/v1/models?limit=1")).json()
    assert ([m["id"] for m in first["data"]], first["has_more"]) == (["tiny:1m:base:q4_0"], True)
    second = (await anthropics.get(f"/v1/models?limit=1&after_id={first['last_id']}")).json()
    assert ([m["id"] for m in second["data"]], second["has_more"]) == (["other:1m:base:q4_0"], False)
    back = (await anthropics.get(f"/v1/models?limit=1&before_id={second['first_id']}")).json()
    assert ([m["id"] for m in back["data"]], back["has_more"]) == (["tiny:1m:base:q4_0"], False)
    for wrong in ("limit=0", "limit=x", "limit=10000", "after_id=nosuch"):
        assert (await anthropics.get(f"/v1/models?{wrong}")).status_code == 400
