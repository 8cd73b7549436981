"""POST /v1/chat/completions: what is taken, what is refused, what is answered, streamed and not."""

from __future__ import annotations

import json

import anyio
import pytest

from hali.api import build_app
from hali.api.openai_format import MAX_CHOICES
from hali.model.errors import (
    Cancelled,
    EngineCrashed,
    EngineFailed,
    EngineUnavailable,
    ModelLoadFailed,
    Overloaded,
    Refused,
    UsageError,
)
from hali.model.generation import Chunk, Done, Message, SamplingParams, Usage
from tests.unit.api.sse import events_of

PATH = "/v1/chat/completions"
HELLO = {"model": "tiny:1m:base:q4_0", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_whole_reply_has_all_fields_of_openai(client, router):
    reply = (await client.post(PATH, json=HELLO)).json()
    assert reply.pop("id").startswith("chatcmpl-")
    assert reply.pop("system_fingerprint").startswith("fp_")
    assert isinstance(reply.pop("created"), int)
    assert reply == {
        "object": "chat.completion",
        "model": "tiny:1m:base:q4_0",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_a_streamed_reply_is_role_texts_reason_done(client):
    response = await client.post(PATH, json={**HELLO, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, last = events_of(response)
    assert last == "[DONE]"
    assert [c["choices"][0]["delta"] for c in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, None, "stop"]
    assert len({(c["id"], c["created"], c["system_fingerprint"], c["object"]) for c in chunks}) == 1
    assert all("usage" not in c for c in chunks)


async def test_the_usage_comes_in_a_chunk_of_its_own_when_asked_for(client):
    response = await client.post(PATH, json={**HELLO, "stream": True, "stream_options": {"include_usage": True}})
    *chunks, usage, last = events_of(response)
    assert last == "[DONE]"
    assert all(c["usage"] is None for c in chunks)
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 9)


async def test_every_field_reaches_the_engine(client, router):
    fields = {
        "temperature": 0,
        "top_p": 0.5,
        "max_tokens": 5,
        "max_completion_tokens": 6,
        "stop": ["a", "b"],
        "seed": 42,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.2,
        "logit_bias": {"15": -100},
        "top_k": 3,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "min_tokens": 2,
        "repeat_last_n": -1,
        "typical_p": 0.9,
        "top_n_sigma": 2.0,
        "xtc_probability": 0.1,
        "xtc_threshold": 0.2,
        "dynatemp_range": 0.3,
        "dynatemp_exponent": 1.5,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.2,
        "dry_multiplier": 0.8,
        "dry_base": 1.5,
        "dry_allowed_length": 3,
        "dry_penalty_last_n": 100,
        "dry_sequence_breakers": ["\n", "."],
    }
    assert {*fields, "max_tokens"} - {"max_completion_tokens"} == set(SamplingParams.__struct_fields__)
    await client.post(PATH, json={**HELLO, **fields})
    sampling = router.asked[0][1].sampling
    fields.pop("max_completion_tokens")
    expected = {**fields, "max_tokens": 6, "stop": ("a", "b"), "logit_bias": {15: -100.0}}
    expected["dry_sequence_breakers"] = ("\n", ".")
    assert {name: getattr(sampling, name) for name in expected} == expected


async def test_the_last_turn_goes_on_where_that_is_asked_for(client, router):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "The"}]
    for fields, goes_on in (
        ({}, False),
        ({"continue_final_message": True}, True),
        ({"continue_final_message": True, "add_generation_prompt": False}, True),
        ({"continue_final_message": False, "add_generation_prompt": True}, False),
    ):
        reply = await client.post(PATH, json={**HELLO, "messages": messages, **fields})
        assert (reply.status_code, router.asked[-1][1].goes_on) == (200, goes_on), reply.text
    both = {**HELLO, "messages": messages, "continue_final_message": True, "add_generation_prompt": True}
    nobody = {**HELLO, "add_generation_prompt": False}
    for wrong in (both, nobody, {**HELLO, "continue_final_message": True}):
        assert (await client.post(PATH, json=wrong)).status_code == 400


async def test_null_is_the_same_as_absent(client, router):
    nulls = dict.fromkeys(["temperature", "top_p", "stop", "max_tokens", "seed", "tools", "n", "response_format"])
    await client.post(PATH, json={**HELLO, **nulls})
    await client.post(PATH, json=HELLO)
    assert router.asked[0] == router.asked[1]


async def test_messages_may_be_strings_or_text_parts_and_developer_means_system(client, router):
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": parts, "name": "eve"},
        {"role": "assistant", "content": ""},
    ]
    await client.post(PATH, json={**HELLO, "messages": messages})
    assert router.asked[0][1].messages == (
        Message("system", "be kind"),
        Message("user", "one two", "eve"),
        Message("assistant", ""),
    )


@pytest.mark.parametrize(
    "harmless",
    [
        {"user": "eve"},
        {"metadata": {"a": "b"}},
        {"store": True},
        {"service_tier": "auto"},
        {"tools": [], "tool_choice": "auto"},
        {"n": 1},
        {"logprobs": False},
        {"response_format": {"type": "text"}},
        {"parallel_tool_calls": True},
        {"modalities": ["text"]},
        {"something_new": [1, {"deep": None}]},
    ],
)
async def test_what_changes_nothing_is_ignored(client, harmless):
    assert (await client.post(PATH, json={**HELLO, **harmless})).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", {"type": "xml"}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "x"}),
        ("web_search_options", {"a": 1}),
        ("web_search_options", {}),  # in its own API that asks for a search
        ("guided_regex", r"(a)\1"),
        ("structured_outputs.regex", "(?=a)"),
        ("stop_token_ids", [2]),
        ("ignore_eos", True),
        ("include_stop_str_in_output", True),
        ("skip_special_tokens", False),
        ("use_beam_search", True),
        ("length_penalty", 0.5),
        ("prompt_logprobs", 1),
        ("allowed_token_ids", [1]),
        ("bad_words", ["x"]),
        ("samplers", ["top_k"]),
        ("lora", [{"id": 0}]),
        ("echo", True),
        ("chat_template", "{{ messages }}"),
    ],
)
async def test_what_would_change_the_answer_and_cannot_be_done_is_refused(client, router, field, value):
    outer, _, inner = field.partition(".")
    response = await client.post(PATH, json={**HELLO, outer: {inner: value} if inner else value})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("unsupported", field, "invalid_request_error")
    assert router.asked == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": HELLO["messages"]}, "model"),
        ({**HELLO, "guided_choice": []}, "guided_choice"),
        ({**HELLO, "structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({**HELLO, "guided_choice": ["a" * MAX_CHOICES]}, "guided_choice"),
        (
            {**HELLO, "messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"model": "tiny:1m:base:q4_0"}, "messages"),
        ({**HELLO, "messages": []}, "messages"),
        ({**HELLO, "messages": "hi"}, "messages"),
        ({**HELLO, "messages": [{"role": "wizard", "content": "hi"}]}, "messages[0].role"),
        ({**HELLO, "messages": [{"role": "user"}]}, "messages[0].content"),
        ({**HELLO, "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (
            {**HELLO, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].image_url",
        ),
        ({**HELLO, "messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({**HELLO, "messages": [{"role": "tool", "content": "5"}]}, "messages[0].tool_call_id"),
        ({**HELLO, "messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].id"),
        ({**HELLO, "temperature": 2.1}, "temperature"),
        ({**HELLO, "temperature": "hot"}, "temperature"),
        ({**HELLO, "top_p": -0.1}, "top_p"),
        ({**HELLO, "max_tokens": 0}, "max_tokens"),
        ({**HELLO, "max_completion_tokens": -1}, "max_completion_tokens"),
        ({**HELLO, "presence_penalty": 3}, "presence_penalty"),
        ({**HELLO, "frequency_penalty": -3}, "frequency_penalty"),
        ({**HELLO, "stop": [str(n) for n in range(17)]}, "stop"),
        ({**HELLO, "n": 0}, "n"),
        ({**HELLO, "n": 129}, "n"),
        ({**HELLO, "min_tokens": -1}, "min_tokens"),
        ({**HELLO, "mirostat": 3}, "mirostat"),
        ({**HELLO, "n_predict": 0}, "n_predict"),
        ({**HELLO, "repeat_penalty": 1.1, "repetition_penalty": 1.2}, "repetition_penalty"),
        ({**HELLO, "top_logprobs": 3}, "top_logprobs"),
        ({**HELLO, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({**HELLO, "response_format": "json"}, "response_format"),
        (
            {**HELLO, "response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema",
        ),
        ({**HELLO, "guided_json": "no schema"}, "guided_json"),
        ({**HELLO, "grammar": 'root ::= "a"', "guided_json": {}}, "guided_json"),
        ({**HELLO, "stop": ""}, "stop"),
        ({**HELLO, "seed": 2**70}, "seed"),
        ({**HELLO, "logit_bias": {"hello": 1}}, "logit_bias"),
        ({**HELLO, "logit_bias": {"5": 101}}, "logit_bias[...]"),
        ({**HELLO, "stream": "yes"}, "stream"),
    ],
)
async def test_a_wrong_field_is_named(client, router, body, param):
    response = await client.post(PATH, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert router.asked == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"model":"\\ud800"}', b'{"x":' + b"[" * 200_000, b'{"temperature":NaN}'],
)
async def test_garbage_is_a_400(client, body):
    response = await client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("text", ["\\ud83d", "\\ud83dx", "\\ude00 and more", "\\ud83d\\u0041"])
async def test_half_of_a_surrogate_pair_is_no_text_and_nothing_else_is_said_of_it(client, text):
    for end in ("}", "}   "):
        body = f'{{"model":"{text}"{end}'
        response = await client.post(PATH, content=body, headers={"content-type": "application/json"})
        assert "a lone surrogate" in response.json()["error"]["message"]
    for cut in ('{"model":"\\ud83d\\ude00', '{"model":"\\\\ud83d"'):
        response = await client.post(PATH, content=cut, headers={"content-type": "application/json"})
        assert "truncated" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (UsageError("too long", code="context_length"), 400, "invalid_request_error", "context_length_exceeded"),
        (Refused("no"), 403, "permission_error", "refused"),
        (
            Overloaded("yours", code="rate_limit", details={"retry_after_s": 3}),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (Overloaded("all", details={"retry_after_s": 3}), 503, "server_error", "overloaded"),
        (EngineUnavailable("no llama.cpp"), 503, "server_error", "engine_unavailable"),
        (EngineCrashed("died"), 503, "server_error", "engine_crashed"),
        (ModelLoadFailed("bad file"), 500, "server_error", "model_load"),
        (EngineFailed("odd"), 500, "server_error", "engine"),
        (ZeroDivisionError("secret detail"), 500, "server_error", "internal"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_token_has_its_status(client, router, error, status, kind, code, stream):
    router.script = [error]
    response = await client.post(PATH, json={**HELLO, "stream": stream})
    body = response.json()["error"]
    assert (response.status_code, body["type"], body["code"]) == (status, kind, code)
    assert response.headers.get("retry-after") == ("3" if status == 429 or code == "overloaded" else None)
    assert "secret" not in response.text


@pytest.mark.parametrize("error", [EngineCrashed("died"), Cancelled("stopped"), Done("cancelled", Usage(1, 1, 0.1, 1))])
async def test_an_error_in_the_middle_is_an_event_and_no_done_follows(client, router, error):
    router.script = [Chunk("Hel", 1), error]
    response = await client.post(PATH, json={**HELLO, "stream": True})
    *_, text, last = events_of(response)
    assert text["choices"][0]["delta"] == {"content": "Hel"}
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert router.running == 0


async def test_an_unknown_model_is_404_and_an_ambiguous_one_400(client):
    missing = await client.post(PATH, json={**HELLO, "model": "nosuch"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    ambiguous = await client.post(PATH, json={**HELLO, "model": "both"})
    assert (ambiguous.status_code, ambiguous.json()["error"]["code"]) == (400, "ambiguous")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_generation(deps, router, stream):
    """Straight ASGI: after the body, `receive` tells of the disconnect while the engine is still busy."""
    router.script = [Chunk("Hel", 1), anyio.Event()]
    left, sent = anyio.Event(), []
    body = json.dumps({**HELLO, "stream": stream}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1:47433"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}
    scope |= {"headers": headers, "server": ("127.0.0.1", 47433), "asgi": {"version": "3.0"}, "http_version": "1.1"}
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(build_app(deps), scope, receive, send)
            while not router.running:
                await anyio.sleep(0.001)
            left.set()
    assert router.running == 0
    assert not any(message.get("more_body") is False for message in sent)


async def test_replies_that_are_cut_end_with_an_explicit_error(deps, client, router):
    router.script = [Chunk("Hel", 1), anyio.Event()]
    responses = []

    async def ask(stream: bool) -> None:
        responses.append(await client.post(PATH, json={**HELLO, "stream": stream}))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, False)
            group.start_soon(ask, True)
            while router.running < 2:
                await anyio.sleep(0.001)
            await anyio.wait_all_tasks_blocked()
            deps.replies.cut()
    whole, streamed = sorted(responses, key=lambda response: -response.status_code)
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "overloaded")
    assert "stopping" in events_of(streamed)[-1]["error"]["message"]
    assert len(deps.replies) == 0


async def test_a_turn_that_was_refused_or_only_thought_can_be_sent_back_as_it_came(client, router):
    turns = [
        {"role": "assistant", "content": None, "refusal": "I will not."},
        {"role": "user", "content": "please", "refusal": None},
        {"role": "assistant", "content": None, "refusal": None, "reasoning_content": "Hm"},
        {"role": "user", "content": "go on"},
    ]
    response = await client.post(PATH, json={**HELLO, "messages": turns})
    assert response.status_code == 200, response.text
    said = [(message.content, message.reasoning) for message in router.asked[0][1].messages]
    assert said == [("I will not.", None), ("please", None), ("", "Hm"), ("go on", None)]
    for empty in ({"role": "assistant", "content": None}, {"role": "user", "content": None, "refusal": "x"}):
        response = await client.post(PATH, json={**HELLO, "messages": [empty]})
        assert (response.status_code, response.json()["error"]["param"]) == (400, "messages[0].content")
