"""POST /v1/completions: prompts without a template, in all their shapes."""

from __future__ import annotations

import anyio
import pytest

from hali.model.errors import EngineCrashed, UsageError
from hali.model.generation import Candidate, Chunk, Detokenize, Done, TokenLogprob, Usage
from tests.unit.api.sse import events_of

PATH = "/v1/completions"
ONCE = {"model": "tiny:1m:base:q4_0", "prompt": "Once"}


def token(text: str, logprob: float) -> TokenLogprob:
    return TokenLogprob(Candidate(1, text.encode(), logprob), (Candidate(1, text.encode(), logprob),))


def said(text: str, logprob: float = -0.5, completion: int = 1) -> list:
    return [Chunk(text, 1, logprobs=(token(text, logprob),)), Done("stop", Usage(4, completion, 0.1, 0.2))]


async def test_a_whole_reply_has_all_fields_of_openai(client, router):
    reply = (await client.post(PATH, json=ONCE)).json()
    assert reply["id"].startswith("cmpl-")
    assert (reply["object"], reply["model"]) == ("text_completion", "tiny:1m:base:q4_0")
    assert reply["choices"] == [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}]
    assert reply["usage"]["total_tokens"] == 9
    asked = router.asked[0][1]
    assert (asked.prompt, asked.messages, asked.tokens) == ("Once", None, None)


async def test_a_streamed_reply_is_texts_reason_usage_done(client):
    body = {**ONCE, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, last = events_of(await client.post(PATH, json=body))
    assert [c["choices"][0]["text"] for c in chunks] == ["Hel", "lo", ""]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, "stop"]
    assert (usage["choices"], usage["usage"]["prompt_tokens"], last) == ([], 7, "[DONE]")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", [("a", None)]),
        (["a", "b"], [("a", None), ("b", None)]),
        ([1, 2], [(None, (1, 2))]),
        ([[1, 2], [3]], [(None, (1, 2)), (None, (3,))]),
        (["a", [3]], [("a", None), (None, (3,))]),
        ("", [("", None)]),
    ],
)
async def test_a_prompt_may_be_texts_or_tokens(client, router, prompt, expected):
    reply = (await client.post(PATH, json={**ONCE, "prompt": prompt})).json()
    assert [(r.prompt, r.tokens) for _, r in router.asked] == expected
    assert [choice["index"] for choice in reply["choices"]] == list(range(len(expected)))
    assert reply["usage"]["prompt_tokens"] == 7 * len(expected)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"ignore_eos": True}, "ignore_eos"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_a_wrong_field_is_named(client, router, fields, param):
    response = await client.post(PATH, json={**ONCE, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert router.asked == []


async def test_several_prompts_with_several_replies_are_numbered_prompt_by_prompt(client, router):
    router.scripts = [said(text) for text in ("a0", "a1", "b0", "b1")]
    reply = (await client.post(PATH, json={**ONCE, "prompt": ["a", "b"], "n": 2, "seed": 7})).json()
    assert [(c["index"], c["text"]) for c in reply["choices"]] == [(0, "a0"), (1, "a1"), (2, "b0"), (3, "b1")]
    assert [request.sampling.seed for _, request in router.asked] == [7, 8, 7, 8]
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (8, 4)


async def test_the_best_of_several_are_given_and_all_are_counted(client, router):
    router.scripts = [said("poor", -3.0), said("good", -0.1), said("fair", -1.0)]
    reply = (await client.post(PATH, json={**ONCE, "best_of": 3, "n": 2})).json()
    assert [(c["index"], c["text"], c["logprobs"]) for c in reply["choices"]] == [(0, "good", None), (1, "fair", None)]
    assert reply["usage"]["completion_tokens"] == 3
    assert {request.logprobs for _, request in router.asked} == {0}


async def test_the_prompt_is_echoed_before_the_text(client, router):
    reply = (await client.post(PATH, json={**ONCE, "prompt": ["Once", [0, 1, 2]], "echo": True})).json()
    assert [choice["text"] for choice in reply["choices"]] == ["OnceHello", "abcHello"]
    assert router.queries == [(ONCE["model"], Detokenize((0, 1, 2)))]
    chunks = events_of(await client.post(PATH, json={**ONCE, "echo": True, "stream": True}))[:-1]
    assert [c["choices"][0]["text"] for c in chunks] == ["Once", "Hel", "lo", ""]


async def test_logprobs_have_the_old_shape(client, router):
    router.script = [
        Chunk("Hé", 2, logprobs=(token("H", -0.5), token("é", -1.0))),
        Chunk("y", 1, logprobs=(token("y", -2.0),)),
        Done("stop", Usage(4, 3, 0.1, 0.2)),
    ]
    (choice,) = (await client.post(PATH, json={**ONCE, "logprobs": 1})).json()["choices"]
    assert choice["logprobs"] == {
        "tokens": ["H", "é", "y"],
        "token_logprobs": [-0.5, -1.0, -2.0],
        "top_logprobs": [{"H": -0.5}, {"é": -1.0}, {"y": -2.0}],
        "text_offset": [0, 1, 2],
    }
    chunks = events_of(await client.post(PATH, json={**ONCE, "logprobs": 1, "stream": True}))[:-2]
    assert [c["choices"][0]["logprobs"]["text_offset"] for c in chunks] == [[0, 1], [2]]


async def test_parts_of_a_character_are_told_apart_and_begin_where_it_does(client, router):
    first = TokenLogprob(Candidate(1, b"\xe2", -1.0), (Candidate(1, b"\xe2", -1.0), Candidate(2, b"\xe3", -2.0)))
    second = TokenLogprob(Candidate(3, b"\x82\xac", -1.0))
    router.script = [
        Chunk("a€", 3, logprobs=(token("a", -0.5), first, second)),
        Chunk("x", 1, logprobs=(token("x", -2.0),)),
        Done("stop", Usage(4, 4, 0.1, 0.2)),
    ]
    (choice,) = (await client.post(PATH, json={**ONCE, "logprobs": 2})).json()["choices"]
    assert choice["logprobs"]["tokens"] == ["a", "bytes:\\xe2", "bytes:\\x82\\xac", "x"]
    assert choice["logprobs"]["top_logprobs"][1] == {"bytes:\\xe2": -1.0, "bytes:\\xe3": -2.0}
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2]
    chunks = events_of(await client.post(PATH, json={**ONCE, "logprobs": 2, "stream": True}))[:-2]
    assert [c["choices"][0]["logprobs"]["text_offset"] for c in chunks] == [[0, 1, 1], [2]]
    router.script[:1] = [Chunk("a", 2, logprobs=(token("a", -0.5), first)), Chunk("€", 1, logprobs=(second,))]
    chunks = events_of(await client.post(PATH, json={**ONCE, "logprobs": 2, "stream": True}))[:-2]
    assert [c["choices"][0]["logprobs"]["text_offset"] for c in chunks] == [[0, 1], [1], [2]]


async def test_an_error_in_the_middle_is_an_event_and_no_done_follows(client, router):
    router.script = [Chunk("Hel", 1), EngineCrashed("died")]
    first, last = events_of(await client.post(PATH, json={**ONCE, "stream": True}))
    assert (first["choices"][0]["text"], last["error"]["code"]) == ("Hel", "engine_crashed")
    response = await client.post(PATH, json=ONCE)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "engine_crashed")


async def test_a_prompt_that_fails_ends_the_others(client, router):
    router.scripts = [[anyio.Event()], [EngineCrashed("died")]]
    with anyio.fail_after(5):
        response = await client.post(PATH, json={**ONCE, "prompt": ["a", "b"]})
    assert response.status_code == 503
    assert router.running == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("count", [2, 3, 9])
async def test_of_prompts_that_fail_together_one_is_told(client, router, count, stream):
    router.script = [UsageError("too long", code="context_length_exceeded")]
    response = await client.post(PATH, json={**ONCE, "prompt": ["a"] * count, "stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert router.running == 0


async def test_bytes_that_are_no_text_take_no_place_in_it(client, router):
    pieces = [b"\x80", b"a", b"\xe2", b"b"]
    logprobs = tuple(TokenLogprob(Candidate(number, piece, -0.5)) for number, piece in enumerate(pieces))
    router.script = [Chunk("ab", 4, logprobs=logprobs), Done("stop", Usage(4, 4, 0.1, 0.2))]
    (choice,) = (await client.post(PATH, json={**ONCE, "logprobs": 0})).json()["choices"]
    assert choice["logprobs"]["text_offset"] == [0, 0, 1, 1]
