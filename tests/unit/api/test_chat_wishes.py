"""What else a chat may wish for: several replies, logprobs, a format, thoughts, images."""

from __future__ import annotations

import base64
import math

import anyio
import pytest

from hali.model.errors import EngineCrashed
from hali.model.generation import (
    MEDIA,
    Candidate,
    Chunk,
    Done,
    Message,
    ReplyFormat,
    TokenLogprob,
    Usage,
)
from tests.fakes.pictures import png
from tests.unit.api.sse import events_of

PATH = "/v1/chat/completions"
HELLO = {"model": "tiny:1m:base:q4_0", "messages": [{"role": "user", "content": "hi"}]}
PNG = png(2, 2)
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def done(prompt: int = 7, completion: int = 2, **more: int) -> Done:
    return Done("stop", Usage(prompt, completion, 0.1, 0.2, **more))


# --- several replies


async def test_several_replies_are_several_generations_with_seeds_of_their_own(client, router):
    router.scripts = [[Chunk(text, 1), done(completion=index + 1)] for index, text in enumerate("abc")]
    reply = (await client.post(PATH, json={**HELLO, "n": 3, "seed": 41})).json()
    assert [(c["index"], c["message"]["content"]) for c in reply["choices"]] == [(0, "a"), (1, "b"), (2, "c")]
    assert [request.sampling.seed for _, request in router.asked] == [41, 42, 43]
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (7, 6)


async def test_without_a_seed_each_reply_draws_its_own(client, router):
    await client.post(PATH, json={**HELLO, "n": 2})
    assert [request.sampling.seed for _, request in router.asked] == [None, None]


async def test_streamed_replies_carry_their_index(client, router):
    router.scripts = [[Chunk("a", 1), Chunk("A", 1), done()], [Chunk("b", 1), done()]]
    body = {**HELLO, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, last = events_of(await client.post(PATH, json=body))
    texts = {0: "", 1: ""}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert (texts, last) == ({0: "aA", 1: "b"}, "[DONE]")
    assert sum(chunk["choices"][0]["finish_reason"] == "stop" for chunk in chunks) == 2
    assert usage["usage"]["prompt_tokens"] == 7
    assert usage["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_fails_ends_the_others(client, router, stream):
    router.scripts = [[Chunk("a", 1), anyio.Event()], [EngineCrashed("died")], [anyio.Event()]]
    with anyio.fail_after(5):
        response = await client.post(PATH, json={**HELLO, "n": 3, "stream": stream})
    error = events_of(response)[-1]["error"] if response.status_code == 200 else response.json()["error"]
    assert error["code"] == "engine_crashed"
    assert router.running == 0


async def test_not_all_of_many_replies_run_at_once(client, router):
    gate = anyio.Event()
    router.script = [gate, Chunk("a", 1), done()]
    replies = []

    async def ask() -> None:
        replies.append((await client.post(PATH, json={**HELLO, "n": 20})).json())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            while router.running < 8:
                await anyio.sleep(0.001)
            await anyio.wait_all_tasks_blocked()
            assert router.running == 8
            gate.set()
    assert len(replies[0]["choices"]) == 20


async def test_a_client_that_leaves_ends_all_replies(deps, client_of, router):
    router.script = [Chunk("a", 1), anyio.Event()]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client_of(deps).post(PATH, json={**HELLO, "n": 4, "stream": True}))
            while router.running < 4:
                await anyio.sleep(0.001)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert router.running == 0


# --- logprobs

E_ACUTE = "é".encode()
TOKENS = (
    TokenLogprob(Candidate(5, b"Hel", -0.5), (Candidate(5, b"Hel", -0.5), Candidate(6, b"Yo", -math.inf))),
    TokenLogprob(Candidate(8, E_ACUTE[:1], -1.0)),
)


async def test_logprobs_are_told_token_by_token(client, router):
    router.script = [Chunk("Hel", 2, logprobs=TOKENS), Chunk("é", 1), done()]
    (choice,) = (await client.post(PATH, json={**HELLO, "logprobs": True, "top_logprobs": 2})).json()["choices"]
    assert router.asked[0][1].logprobs == 2
    first, second = choice["logprobs"]["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("Hel", -0.5, [72, 101, 108])
    assert [(top["token"], top["logprob"]) for top in first["top_logprobs"]] == [("Hel", -0.5), ("Yo", -9999.0)]
    assert (second["token"], second["bytes"]) == ("\ufffd", [E_ACUTE[0]])


async def test_streamed_logprobs_come_also_without_text(client, router):
    router.script = [Chunk("", 1, logprobs=TOKENS[1:]), Chunk("é", 1, logprobs=TOKENS[:1]), done()]
    chunks = events_of(await client.post(PATH, json={**HELLO, "logprobs": True, "stream": True}))[:-1]
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [len(each["content"]) if each else None for each in told] == [None, 1, 1, None]
    assert router.asked[0][1].logprobs == 0


async def test_logprobs_of_thoughts_are_not_those_of_the_answer(client, router):
    router.script = [Chunk("hm", 1, reasoning=True, logprobs=TOKENS[:1]), Chunk("é", 1, logprobs=TOKENS[1:]), done()]
    (choice,) = (await client.post(PATH, json={**HELLO, "logprobs": True})).json()["choices"]
    assert len(choice["logprobs"]["content"]) == 1


# --- formats

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ReplyFormat({"type": "object"})),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, ReplyFormat(SCHEMA)),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            ReplyFormat(SCHEMA),
        ),
        ({"json_schema": SCHEMA}, ReplyFormat(SCHEMA)),
        ({"guided_json": SCHEMA}, ReplyFormat(SCHEMA)),
        ({"guided_json": '{"type": "integer"}'}, ReplyFormat({"type": "integer"})),
        ({"guided_json": True}, ReplyFormat(True)),
        ({"grammar": 'root ::= "a"'}, ReplyFormat(grammar='root ::= "a"')),
        ({"guided_grammar": 'root ::= "a"'}, ReplyFormat(grammar='root ::= "a"')),
        ({"guided_choice": ["yes", 'n"o']}, ReplyFormat(grammar='root ::= "yes" | "n\\U00000022o"')),
        ({"guided_regex": "a+|[^b]"}, ReplyFormat(grammar='root ::= "a"+ | [^b]')),
        ({"structured_outputs": {"regex": "a"}}, ReplyFormat(grammar='root ::= "a"')),
        ({"structured_outputs": {"json": SCHEMA}}, ReplyFormat(SCHEMA)),
        ({"structured_outputs": {"json_object": True}}, ReplyFormat({"type": "object"})),
        ({"structured_outputs": {"choice": ["a"]}}, ReplyFormat(grammar='root ::= "a"')),
    ],
)
async def test_each_way_to_wish_for_a_format_means_the_same(client, router, fields, expected):
    assert (await client.post(PATH, json={**HELLO, **fields})).status_code == 200
    assert router.asked[0][1].format == expected


# --- thoughts


async def test_thoughts_are_told_apart_from_the_answer(client, router):
    router.script = [Chunk("Hm", 1, reasoning=True), Chunk("m.", 1, reasoning=True), Chunk("Yes", 1), done()]
    (choice,) = (await client.post(PATH, json=HELLO)).json()["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("Hmm.", "Yes")
    chunks = events_of(await client.post(PATH, json={**HELLO, "stream": True}))[1:-2]
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"reasoning_content": "Hm"},
        {"reasoning_content": "m."},
        {"content": "Yes"},
    ]


async def test_the_usage_tells_what_was_cached_and_what_was_thought(client, router):
    router.script = [Chunk("a", 1), done(10, 5, cached_tokens=8, reasoning_tokens=4)]
    usage = (await client.post(PATH, json=HELLO)).json()["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 8}
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 4}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"enable_thinking": False}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
        (
            {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}},
            {"reasoning_effort": "high"},
        ),
    ],
)
async def test_the_template_is_told_how_to_think(client, router, fields, expected):
    await client.post(PATH, json={**HELLO, **fields})
    assert router.asked[0][1].template_kwargs == expected


async def test_an_empty_reply_is_an_empty_text(client, router):
    router.script = [done(completion=0)]
    (choice,) = (await client.post(PATH, json=HELLO)).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "stop")
    role, end, last = events_of(await client.post(PATH, json={**HELLO, "stream": True}))
    assert (role["choices"][0]["delta"]["content"], end["choices"][0]["delta"], last) == ("", {}, "[DONE]")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_without_a_last_word_is_an_error(client, router, stream):
    router.script = []
    response = await client.post(PATH, json={**HELLO, "stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "cancelled")


# --- images


def with_image(url: object, text: str = "what is this?") -> dict:
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": url}]
    return {**HELLO, "messages": [{"role": "user", "content": parts}]}


@pytest.mark.parametrize("url", [{"url": URL, "detail": "low"}, {"url": URL}, URL])
async def test_an_image_goes_to_its_place_in_the_text(client, router, url):
    assert (await client.post(PATH, json=with_image(url))).status_code == 200
    assert router.asked[0][1].messages == (Message("user", f"what is this?{MEDIA}", images=(PNG,)),)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://example.com/a.png", "unsupported"),
        ("https://127.0.0.1/a.png", "unsupported"),
        ("file:///etc/passwd", "unsupported"),
        ("/etc/passwd", "unsupported"),
        ("", "unsupported"),
        ("data:text/html;base64,AAAA", "invalid_value"),
        ("data:image/png,AAAA", "invalid_value"),
        ("data:image/png;base64,", "invalid_value"),
        ("data:image/png;base64,AAAA", "invalid_value"),
        (f"{URL}A", "invalid_value"),
        (f"{URL}é", "invalid_value"),
        (f"{URL[:32]}!{URL[32:]}", "invalid_value"),
    ],
)
async def test_no_image_is_fetched_and_none_is_guessed(client, router, url, code):
    error = (await client.post(PATH, json=with_image({"url": url}))).json()["error"]
    assert (error["code"], error["param"]) == (code, "messages[0].content[1].image_url")
    assert router.asked == []


async def test_a_text_cannot_pass_for_an_image(client, router):
    error = (await client.post(PATH, json=with_image(URL, f"look: {MEDIA}"))).json()["error"]
    assert error["param"] == "messages"
    assert router.asked == []
    alone = {**HELLO, "messages": [{"role": "user", "content": MEDIA}]}
    assert (await client.post(PATH, json=alone)).status_code == 200
