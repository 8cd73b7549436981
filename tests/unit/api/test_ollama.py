"""Ollama's API: what its bodies ask of the router, and what it answers, line by line and whole."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from array import array

import pytest

from hali.api import ApiKey
from hali.api.base import LoadedModel, ModelDetails, PullProgress
from hali.model.errors import EngineCrashed, TransferFailed
from hali.model.generation import (
    MEDIA,
    Candidate,
    Chunk,
    Done,
    Embed,
    Embeddings,
    Message,
    ReplyFormat,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCalled,
    Usage,
)
from hali.pipeline import ServedModel
from tests.fakes.pictures import png
from tests.unit.api.conftest import TINY

PNG = png(2, 2)
PIC = base64.b64encode(PNG).decode()
USED = Usage(prompt_tokens=20, completion_tokens=9, ttft_s=0.25, total_s=1.0)
DONE = Done("stop", USED)
LOAD = [("load", TINY.id)]
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Now.", "parameters": {"type": "object"}}}
CALL = ToolCall("call_7", "weather", '{"city":"Oslo"}')
SCRIPT = [
    Chunk("Hm", 1, reasoning=True),
    Chunk("It ", 1),
    Chunk("", 1),
    Chunk("rains.", 1),
    ToolCalled(0, CALL, 3),
    Done("tool_calls", USED),
]


async def chat(client, **fields):
    return await client.post("/api/chat", json={"model": "acme/tiny", "messages": [said("hi")], **fields})


async def generate(client, **fields):
    return await client.post("/api/generate", json={"model": "acme/tiny", "prompt": "hi", **fields})


def said(content: str, role: str = "user", **more: object) -> dict:
    return {"role": role, "content": content, **more}


def lines_of(reply) -> list[dict]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.text.splitlines()]


# ---- names


@pytest.mark.parametrize("name", ["acme/tiny", "acme/tiny:latest", "hf.co/acme/tiny", "hf.co/acme/tiny:latest"])
async def test_the_default_tag_and_the_hub_do_not_hide_a_model(client, router, name):
    reply = await chat(client, model=name, stream=False)
    assert (reply.status_code, reply.json()["model"]) == (200, name)
    assert router.asked[0][0] == "tiny:1m:base:q4_0"


@pytest.mark.parametrize(("name", "status"), [("nosuch", 404), ("tiny:2b", 404), ("both", 400), ("both:latest", 400)])
async def test_nothing_is_guessed(client, router, name, status):
    for path in ("/api/chat", "/api/generate", "/api/show", "/api/embed"):
        reply = await client.post(path, json={"model": name, "messages": [said("x")], "prompt": "x", "input": "x"})
        assert reply.status_code == status and set(reply.json()) == {"error"}
        assert status == 404 or "tiny:1m:base:q4_0, other:1m:base:q4_0" in reply.json()["error"]
    assert router.asked == []


# ---- what is asked


async def test_options_become_sampling_with_ollamas_defaults(client, router):
    await chat(client)
    plain = router.asked[-1][1].sampling
    assert (plain.temperature, plain.top_k, plain.top_p, plain.repeat_penalty) == (0.8, 40, 0.9, 1.1)
    assert (plain.seed, plain.max_tokens, plain.stop) == (None, None, ())
    options = {
        "temperature": 0, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.7, "repeat_penalty": 1.0, "seed": 3,
        "repeat_last_n": 16, "presence_penalty": 0.5, "frequency_penalty": 0.25, "num_predict": 8, "stop": ["a"],
        "mirostat": 2, "mirostat_tau": 4, "mirostat_eta": 0.2, "num_ctx": 2048, "num_gpu": 1,
    }  # fmt: skip
    await chat(client, options=options)
    sampling = router.asked[-1][1].sampling
    names = {"num_predict": "max_tokens"}
    for name, value in options.items():
        if name not in ("num_ctx", "num_gpu", "stop"):
            assert getattr(sampling, names.get(name, name)) == value, name
    assert sampling.stop == ("a",)
    await chat(client, options={"seed": -1, "num_predict": -1, "stop": "b"})
    sampling = router.asked[-1][1].sampling
    assert (sampling.seed, sampling.max_tokens, sampling.stop) == (None, None, ("b",))


@pytest.mark.parametrize("off", [0, -1, -1.0])
async def test_top_k_of_0_and_below_is_off_as_with_ollama(client, router, off):
    await chat(client, options={"top_k": off})
    assert router.asked[-1][1].sampling.top_k == 0


async def test_a_whole_number_may_be_written_as_a_float(client, router):
    await chat(client, options={"top_k": 5.0, "seed": 3.0, "num_predict": 8.0, "repeat_last_n": -1.0, "mirostat": 1.0})
    sampling = router.asked[-1][1].sampling
    found = (sampling.top_k, sampling.seed, sampling.max_tokens, sampling.repeat_last_n, sampling.mirostat)
    assert found == (5, 3, 8, -1, 1) and all(isinstance(value, int) for value in found)


@pytest.mark.parametrize(
    ("last", "goes_on"),
    [
        (said('{"a": ', "assistant"), True),
        (said("", "assistant"), False),
        (said("x", "assistant", tool_calls=[{"function": {"name": "weather", "arguments": {}}}]), False),
        (said("and now?"), False),
    ],
)
async def test_a_last_turn_of_the_assistant_goes_on(client, router, last, goes_on):
    await chat(client, messages=[said("hi"), last])
    assert router.asked[-1][1].goes_on is goes_on


async def test_a_round_of_tools_becomes_messages_that_templates_know(client, router):
    calls = [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}, {"function": {"name": "time"}}]
    turns = [
        said("Oslo?", images=[PIC]),
        said("", "assistant", thinking="Ask.", tool_calls=calls),
        said("noon", "tool", tool_name="time"),
        said("Rain.", "tool"),
    ]
    await chat(client, messages=turns, tools=[WEATHER])
    request = router.asked[-1][1]
    made = (ToolCall("call_1_0", "weather", '{"city":"Oslo"}'), ToolCall("call_1_1", "time", "{}"))
    assert request.messages == (
        Message("user", f"{MEDIA}Oslo?", images=(PNG,)),
        Message("assistant", "", tool_calls=made, reasoning="Ask."),
        Message("tool", "noon", name="time", tool_call_id="call_1_1"),
        Message("tool", "Rain.", name="weather", tool_call_id="call_1_0"),
    )
    assert request.tools == (Tool("weather", "Now.", {"type": "object"}),)


async def test_answers_of_two_calls_of_one_tool_belong_to_them_in_order(client, router):
    calls = [{"function": {"name": "weather", "arguments": {"city": city}}} for city in ("Oslo", "Rome")]
    answers = [said(text, "tool", tool_name="weather") for text in ("Rain.", "Sun.")]
    await chat(client, messages=[said("?"), said("", "assistant", tool_calls=calls), *answers])
    assert [(m.content, m.tool_call_id) for m in router.asked[-1][1].messages[2:]] == [
        ("Rain.", "call_1_0"),
        ("Sun.", "call_1_1"),
    ]


async def test_an_answer_that_follows_no_open_call_is_a_turn_all_the_same(client, router):
    call = {"function": {"name": "weather", "arguments": {}}}
    answers = [said("Rain.", "tool"), said("Sun.", "tool"), said("Fog.", "tool", tool_name="time", tool_call_id="mine")]
    await chat(client, messages=[said("x", "tool"), said("", "assistant", tool_calls=[call]), *answers])
    assert [(m.content, m.name, m.tool_call_id) for m in router.asked[-1][1].messages if m.role == "tool"] == [
        ("x", "", "call_0"),
        ("Rain.", "weather", "call_1_0"),
        ("Sun.", "", "call_3"),
        ("Fog.", "time", "mine"),
    ]


async def test_roles_may_be_written_large(client, router):
    await chat(client, messages=[said("a", "System"), said("b", "USER")])
    assert [message.role for message in router.asked[-1][1].messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", None),
        ("json", ReplyFormat(schema={"type": "object"})),
        ({"type": "array"}, ReplyFormat(schema={"type": "array"})),
    ],
)
async def test_the_format_is_passed_on(client, router, wanted, expected):
    await chat(client, format=wanted)
    assert router.asked[-1][1].format == expected


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (None, {}),
        (True, {"enable_thinking": True}),
        (False, {"enable_thinking": False}),
        ("low", {"enable_thinking": True, "reasoning_effort": "low"}),
    ],
)
async def test_thinking_is_told_to_the_template(client, router, think, expected):
    await chat(client, think=think)
    assert router.asked[-1][1].template_kwargs == expected


async def test_a_prompt_is_a_turn_and_a_raw_one_is_itself(client, router):
    await generate(client, system="Be brief.", images=[PIC])
    expected = (Message("system", "Be brief."), Message("user", f"{MEDIA}hi", images=(PNG,)))
    assert (router.asked[-1][1].messages, router.asked[-1][1].prompt) == (expected, None)
    await generate(client, raw=True)
    assert (router.asked[-1][1].messages, router.asked[-1][1].prompt) == (None, "hi")


@pytest.mark.parametrize(
    ("ask", "fields", "named"),
    [
        (generate, {"context": [1, 2]}, "/api/chat"),
        (generate, {"suffix": "x"}, "suffix"),
        (generate, {"template": "x"}, "template"),
        (generate, {"raw": True, "system": "x"}, "raw"),
        (chat, {"format": "yaml"}, "format"),
        (chat, {"options": {"num_predict": 0}}, "num_predict"),
        (chat, {"options": {"temperature": -1}}, "options.temperature"),
        (chat, {"options": {"top_k": 2.5}}, "`top_k` is a whole number, not 2.5"),
        (chat, {"options": {"repeat_last_n": -2.0}}, "options.repeat_last_n"),
        (chat, {"options": {"seed": 1e10}}, "options.seed"),
        (chat, {"messages": [said("x", "robot")]}, "role"),
        (chat, {"messages": [said("x", images=["%"])]}, "not base64"),
    ],
)
async def test_what_cannot_be_honoured_is_a_400_that_names_it(client, router, ask, fields, named):
    reply = await ask(client, **fields)
    assert reply.status_code == 400 and named in reply.json()["error"]
    assert router.asked == []


# ---- what is answered


async def test_a_chat_is_streamed_by_default_as_lines(client, router):
    router.script = SCRIPT
    *lines, last = lines_of(await chat(client))
    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "Hm"},
        {"role": "assistant", "content": "It "},
        {"role": "assistant", "content": "rains."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_7", "function": {"index": 0, "name": "weather", "arguments": {"city": "Oslo"}}}
            ],
        },
    ]
    assert not any(line["done"] for line in lines)
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "stop", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (20, 9)
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (250_000_000, 750_000_000)
    assert last["total_duration"] == 1_000_000_000 + last["load_duration"]


async def test_the_whole_reply_says_the_same_at_once(client, router):
    router.script = SCRIPT
    reply = (await chat(client, stream=False)).json()
    assert reply["message"]["content"] == "It rains." and reply["message"]["thinking"] == "Hm"
    assert reply["message"]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert reply["done"] and reply["eval_count"] == 9
    router.script = [*SCRIPT[:4], Done("length", USED)]
    reply = (await generate(client, stream=False)).json()
    assert (reply["response"], reply["thinking"], reply["done_reason"]) == ("It rains.", "Hm", "length")


async def test_generate_streams_fragments_of_the_response(client, router):
    router.script = [Chunk("a", 1), Chunk("b", 1), DONE]
    assert [(line["response"], line["done"]) for line in lines_of(await generate(client))] == [
        ("a", False),
        ("b", False),
        ("", True),
    ]


async def test_thoughts_are_left_out_where_they_were_declined(client, router):
    router.script = SCRIPT
    assert "Hm" not in (await chat(client, think=False)).text
    assert "Hm" not in (await chat(client, think=False, stream=False)).text


async def test_logprobs_come_with_their_text(client, router):
    chosen, other = Candidate(5, b"a", -0.5), Candidate(6, b"\xc3", -math.inf)
    router.script = [Chunk("a", 1, logprobs=(TokenLogprob(chosen, (chosen, other)),)), DONE]
    reply = (await generate(client, stream=False, logprobs=True, top_logprobs=2)).json()
    assert router.asked[-1][1].logprobs == 2
    assert reply["logprobs"][0]["token"] == "a" and reply["logprobs"][0]["logprob"] == -0.5
    assert [each["bytes"] for each in reply["logprobs"][0]["top_logprobs"]] == [[97], [195]]
    assert (
        reply["logprobs"][0]["top_logprobs"][1]["logprob"] == -9999.0
    )  # JSON has no infinity, and clients take no null


async def test_errors_before_the_first_line_have_a_status_and_later_ones_are_a_line(client, router):
    router.script = [EngineCrashed("gone")]
    for stream in (True, False):
        reply = await chat(client, stream=stream)
        assert (reply.status_code, reply.json()) == (503, {"error": "gone"})
    router.script = [Chunk("a", 1), EngineCrashed("gone")]
    assert lines_of(await chat(client))[-1] == {"error": "gone"}
    router.script = [Chunk("a", 1), Done("cancelled", USED)]
    assert "the model was stopped" in lines_of(await chat(client))[-1]["error"]
    assert (await chat(client, stream=False)).status_code == 503


# ---- memory


async def test_without_anything_to_say_a_model_is_loaded_or_unloaded(client, store, router):
    for path in ("/api/chat", "/api/generate"):
        assert (await client.post(path, json={"model": "acme/tiny"})).json()["done_reason"] == "load"
        for zero in (0, "0", "0s", "0m", "0h0m0s"):
            reply = await client.post(path, json={"model": "acme/tiny", "keep_alive": zero})
            assert reply.json()["done_reason"] == "unload"
        kept = await client.post(path, json={"model": "acme/tiny", "keep_alive": "1h30m"})
        assert kept.json()["done_reason"] == "load"
    assert store.done == [*LOAD, *[("unload", TINY.id)] * 5, *LOAD, ("keep", "5400.0")] * 2
    assert router.asked == []


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (0, "0.0"),
        ("0s", "0.0"),
        (300, "300.0"),
        ("5m", "300.0"),
        ("1h0m1.5s", "3601.5"),
        ("500ms", "0.5"),
        ("90", "90.0"),
        (-1, "None"),
        ("-1m", "None"),
        ("-1", "None"),
        (1e300, "None"),
        ("99999999999h", "None"),
    ],
)
async def test_how_long_a_model_stays_is_told_when_its_reply_is_made(client, store, asked, seconds):
    for stream in (True, False):
        assert (await chat(client, keep_alive=asked, stream=stream)).status_code == 200
    assert store.done == [("keep", seconds)] * 2


@pytest.mark.parametrize("asked", ["", "soon", "5 m", "5mm", "m", "--5m", "1e3", "5m!", "٣s", "9" * 400])
async def test_what_is_no_duration_is_refused(client, store, router, asked):
    reply = await chat(client, keep_alive=asked)
    assert reply.status_code == 400 and "keep_alive" in reply.json()["error"]
    assert store.done == router.asked == []


async def test_to_keep_unload_fetch_or_delete_a_model_a_key_must_be_allowed_to(deps, client_of, store, router):
    key = ApiKey("ann", "sk-ann", scopes=frozenset({"inference"}))
    client = client_of(dataclasses.replace(deps, keys=(key,), require_key=True))
    client.headers["authorization"] = "Bearer sk-ann"
    for stream in (True, False):  # the reply is what matters; clients send the hint without being asked
        assert (await chat(client, keep_alive=0, stream=stream)).status_code == 200
    assert (await client.post("/api/generate", json={"model": "acme/tiny", "keep_alive": 0})).status_code == 403
    for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/show"), ("GET", "/api/tags")):
        reply = await client.request(method, path, json={"model": "acme/tiny"})
        assert reply.status_code == 403 and "no scope" in reply.json()["error"]
    assert store.done == [] and len(router.asked) == 2


async def test_models_in_memory_are_told_with_what_they_hold(client, store):
    model = ServedModel("tiny:1m:base:q4_0", "ab" * 32, "/x", 1_700_000_000, 1000)
    store.in_memory = [LoadedModel(model, 4096, 5000, 60.0), LoadedModel(model, None, None, None)]
    first, second = (await client.get("/api/ps")).json()["models"]
    assert (first["name"], first["size"], first["size_vram"], first["context_length"]) == (model.id, 5000, 0, 4096)
    assert (second["size"], second["context_length"]) == (1000, 0)
    assert first["expires_at"] < second["expires_at"]


# ---- models


async def test_tags_tell_all_models_by_their_names(client):
    first, second = (await client.get("/api/tags")).json()["models"]
    assert (first["name"], first["model"], first["digest"], first["size"]) == (
        "tiny:1m:base:q4_0",
        "tiny:1m:base:q4_0",
        "ab" * 32,
        1000,
    )
    assert first["modified_at"] == "2023-11-14T22:13:20Z"
    assert (first["details"]["parameter_size"], first["details"]["quantization_level"]) == ("1M", "Q4_0")
    assert second["name"] == "other:1m:base:q4_0"


@pytest.mark.parametrize(
    ("facts", "can"),
    [
        ({"chat_template": "{{ tools }}", "thinking": True}, ["completion", "tools", "thinking"]),
        ({"chat_template": "{{ x }}", "vision": True}, ["completion", "vision"]),
        ({"architecture": "nomic-bert"}, ["embedding"]),
    ],
)
async def test_show_tells_what_the_file_says_and_what_the_model_can(client, store, facts, can):
    store.facts = ModelDetails(**{"architecture": "llama", "parameters": 134_515_008, "layers": 30, **facts})
    reply = (await client.post("/api/show", json={"model": "acme/tiny:latest"})).json()
    assert reply["capabilities"] == can
    assert reply["details"]["parameter_size"] == "135M"
    assert reply["model_info"]["general.parameter_count"] == 134_515_008
    assert reply["template"] == facts.get("chat_template", "")


async def test_a_pull_tells_how_far_it_is(client, store):
    lines = lines_of(await client.post("/api/pull", json={"model": "hf.co/acme/new:Q4_0"}))
    assert lines == [
        {"status": "resolving acme/new"},
        {"status": "pulling new.gguf", "total": 10, "completed": 5},
        {"status": "sharing new.gguf", "total": 10, "completed": 10},
        {"status": "success"},
    ]
    whole = await client.post("/api/pull", json={"name": "new:latest", "stream": False})
    assert whole.json() == {"status": "success"}
    assert store.done == [("pull", "acme/new:Q4_0"), ("pull", "new")]


async def test_a_pull_that_fails_says_so(client, store):
    store.pulls = [TransferFailed("nobody has it")]
    for stream in (True, False):
        reply = await client.post("/api/pull", json={"model": "x", "stream": stream})
        assert (reply.status_code, reply.json()) == (503, {"error": "nobody has it"})
    store.pulls = [PullProgress("resolving", "x", 0, None), TransferFailed("nobody has it")]
    assert lines_of(await client.post("/api/pull", json={"model": "x"}))[-1] == {"error": "nobody has it"}


async def test_delete_takes_the_one_model_that_is_named(client, store):
    for name, status in (("nosuch", 404), ("both", 400), ("acme/tiny:latest", 200)):
        assert (await client.request("DELETE", "/api/delete", json={"model": name})).status_code == status
    assert (await client.request("DELETE", "/api/delete", json={})).status_code == 400
    assert store.done == [("remove", "ab" * 32)]


async def test_a_delete_that_a_page_of_another_site_could_send_is_415(client, store):
    reply = await client.request(
        "DELETE", "/api/delete", content=b'{"model":"acme/tiny"}', headers={"content-type": "text/plain"}
    )
    assert reply.status_code == 415 and set(reply.json()) == {"error"}
    assert store.done == []


# ---- embeddings


async def test_texts_become_vectors(client, router):
    router.answers[Embed] = Embeddings((array("f", [3.0, 4.0]).tobytes(), array("f", [0.0, 1.0]).tobytes()), 5)
    reply = (await client.post("/api/embed", json={"model": "acme/tiny", "input": ["a", "b"]})).json()
    assert (reply["embeddings"], reply["prompt_eval_count"]) == ([[3.0, 4.0], [0.0, 1.0]], 5)
    assert router.queries[-1][1] == Embed(("a", "b"))
    reply = (await client.post("/api/embed", json={"model": "acme/tiny", "input": "a", "dimensions": 1})).json()
    assert reply["embeddings"][0] == [1.0]
    reply = (await client.post("/api/embeddings", json={"model": "acme/tiny", "prompt": "a"})).json()
    assert reply == {"embedding": [3.0, 4.0]}
    assert router.queries[-1][1] == Embed(("a",), normalize=False)
    count = len(router.queries)
    for nothing in ([], ""):
        reply = await client.post("/api/embed", json={"model": "acme/tiny", "input": nothing})
        assert reply.json()["embeddings"] == []
    assert (await client.post("/api/embeddings", json={"model": "acme/tiny"})).json() == {"embedding": []}
    assert len(router.queries) == count


async def embed(client, path: str, text: str, **fields):
    return await client.post(path, json={"model": "acme/tiny", "input": text, "prompt": text, **fields})


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
async def test_how_long_a_model_stays_is_told_when_its_vectors_are_made(client, store, path):
    for asked in (0, "5m", -1):
        assert (await embed(client, path, "a", keep_alive=asked)).status_code == 200
    assert store.done == [("keep", "0.0"), ("keep", "300.0"), ("keep", "None")]
    assert (await embed(client, path, "a", keep_alive="soon")).status_code == 400


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
async def test_without_a_text_to_embed_a_model_is_loaded_or_unloaded(client, store, router, path):
    for fields in ({}, {"keep_alive": "5m"}, {"keep_alive": 0}):
        assert (await embed(client, path, "", **fields)).status_code == 200
    assert store.done == [*LOAD, *LOAD, ("keep", "300.0"), ("unload", TINY.id)]
    assert router.queries == []


async def test_a_key_that_may_only_ask_has_its_vectors_and_does_not_say_how_long_the_model_stays(
    deps, client_of, store
):
    key = ApiKey("ann", "sk-ann", scopes=frozenset({"inference"}))
    client = client_of(dataclasses.replace(deps, keys=(key,), require_key=True))
    client.headers["authorization"] = "Bearer sk-ann"
    assert (await embed(client, "/api/embed", "a", keep_alive=0)).status_code == 200
    assert (await embed(client, "/api/embed", "", keep_alive=0)).status_code == 403
    assert store.done == []


async def test_more_texts_than_the_engine_takes_at_once_are_several_questions(client, router):
    texts = [str(number) for number in range(4100)]
    reply = (await client.post("/api/embed", json={"model": "acme/tiny", "input": texts})).json()
    assert (len(reply["embeddings"]), reply["prompt_eval_count"]) == (4100, 3 * 4100)
    asked = [query for _, query in router.queries]
    assert [(len(query.inputs), query.first) for query in asked] == [(2048, 0), (2048, 2048), (4, 4096)]
    assert [text for query in asked for text in query.inputs] == texts


async def test_more_vectors_than_one_answer_holds_are_refused_when_their_size_is_known(client, router):
    router.answers[Embed] = Embeddings((bytes(4 * 8192),), 1)
    reply = await client.post("/api/embed", json={"model": "acme/tiny", "input": ["a"] * 2049})
    assert reply.status_code == 400 and "holds the vectors of 2048" in reply.json()["error"]
    assert len(router.queries) == 1
