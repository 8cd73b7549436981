"""The official clients of Anthropic and Ollama, unmodified, against the application with a router that follows a script:
what no small model says on demand (tools, thoughts, failures)."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator

import anthropic
import httpx
import httpx2
import ollama
import pytest

from hali.api import build_app
from hali.model.errors import EngineCrashed, Overloaded, TransferFailed
from hali.model.generation import Chunk, Done, Embed, Embeddings, Message, ToolCall, ToolCalled, Usage
from tests.unit.api.conftest import DONE, OWN, TINY

USED = Usage(prompt_tokens=20, completion_tokens=9, ttft_s=0.1, total_s=0.2, cached_tokens=15)
CALL = ToolCall("call_1", "weather", '{"city":"Oslo","days":2}')
CALLS = [Chunk("Let me see.", 3), ToolCalled(0, CALL, 6), Done("tool_calls", USED)]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
HI = [{"role": "user", "content": "hi"}]
THINK = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture
async def claude(deps) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(build_app(deps))) as http:
        yield anthropic.AsyncAnthropic(base_url=OWN, api_key="none", max_retries=0, http_client=http)


@pytest.fixture
async def llama(deps) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(OWN, transport=httpx.ASGITransport(build_app(deps)))
    yield client
    await client._client.aclose()


# ---- anthropic


async def test_anthropic_gets_a_tool_call_and_hands_back_its_result(claude, router):
    tools = [{"name": "weather", "description": "Now.", "input_schema": SCHEMA}]
    ask = {"model": "acme/tiny", "max_tokens": 99, "tools": tools}
    for streamed in (False, True):
        router.script = CALLS
        if streamed:
            async with claude.messages.stream(messages=HI, **ask) as stream:
                reply = await stream.get_final_message()
        else:
            reply = await claude.messages.create(messages=HI, **ask)
        text, use = reply.content
        assert (text.text, use.name, use.input) == ("Let me see.", "weather", {"city": "Oslo", "days": 2})
        assert (reply.stop_reason, reply.usage.input_tokens, reply.usage.output_tokens) == ("tool_use", 5, 9)
        assert reply.usage.cache_read_input_tokens == 15
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "Rain."}
    turns = [*HI, reply.to_param(), {"role": "user", "content": [result]}]
    router.script = [Chunk("It rains.", 3), DONE]
    assert (await claude.messages.create(messages=turns, **ask)).content[0].text == "It rains."
    assert router.asked[-1][1].messages == (
        Message("user", "hi"),
        Message("assistant", "Let me see.", tool_calls=(CALL,)),
        Message("tool", "Rain.", name="weather", tool_call_id="call_1"),
    )


async def test_anthropic_sees_thoughts_and_text_as_they_come(claude, router):
    router.script = [
        Chunk("Hm", 1, reasoning=True),
        Chunk(" so.", 1, reasoning=True),
        Chunk("Ye", 1),
        Chunk("s.", 1),
        DONE,
    ]
    async with claude.messages.stream(model="acme/tiny", max_tokens=2048, messages=HI, thinking=THINK) as stream:
        kinds = [event.type async for event in stream]
        reply = await stream.get_final_message()
    assert kinds.count("thinking") == kinds.count("text") == 2
    assert [block.type for block in reply.content] == ["thinking", "text"]
    assert (reply.content[0].thinking, reply.content[1].text) == ("Hm so.", "Yes.")


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([Overloaded("full", code="rate_limit")], anthropic.RateLimitError),
        ([Overloaded("full")], anthropic.InternalServerError),
        ([ZeroDivisionError()], anthropic.InternalServerError),
        ([Chunk("x", 1), EngineCrashed("gone")], anthropic.APIStatusError),
    ],
)
async def test_anthropic_raises_its_own_errors(claude, router, script, kind):
    router.script = script
    with pytest.raises(kind) as caught:
        async with claude.messages.stream(model="acme/tiny", max_tokens=9, messages=HI) as stream:
            await stream.get_final_message()
    assert caught.value.request_id.startswith("req_")


async def test_anthropic_is_told_what_is_wrong_with_a_request(claude):
    with pytest.raises(anthropic.NotFoundError, match="nosuch"):
        await claude.messages.create(model="nosuch", max_tokens=9, messages=HI)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await claude.messages.create(model="acme/tiny", max_tokens=0, messages=HI)
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.list()


async def test_anthropic_counts_tokens_and_lists_models(claude):
    counted = await claude.messages.count_tokens(model="acme/tiny", messages=HI, system="Be brief.")
    assert counted.input_tokens == 2
    assert [model.id async for model in claude.models.list(limit=1)] == [TINY.id, "other:1m:base:q4_0"]
    assert (await claude.models.retrieve("acme/tiny")).id == TINY.id


# ---- ollama


def weather(city: str, days: int = 1) -> str:
    """The weather.

    Args:
        city: Where.
        days: How long.
    """
    raise AssertionError("the test answers by itself")


async def test_ollama_gets_a_tool_call_and_hands_back_its_result(llama, router):
    for streamed in (False, True):
        router.script = CALLS
        reply = await llama.chat("acme/tiny", HI, tools=[weather], stream=streamed)
        said = [part.message async for part in reply] if streamed else [reply.message]
        (call,) = [call for message in said for call in message.tool_calls or ()]
        assert "".join(message.content for message in said) == "Let me see."
        assert (call.function.name, dict(call.function.arguments)) == ("weather", {"city": "Oslo", "days": 2})
    assert router.asked[-1][1].tools[0].parameters["properties"]["days"]["type"] == "integer"
    router.script = [Chunk("It rains.", 3), DONE]
    turns = [*HI, reply_message(said), {"role": "tool", "tool_name": "weather", "content": "Rain."}]
    assert (await llama.chat("acme/tiny", turns)).message.content == "It rains."
    *_, answer = router.asked[-1][1].messages
    assert (answer.role, answer.name, answer.content) == ("tool", "weather", "Rain.")


def reply_message(said: list[ollama.Message]) -> ollama.Message:
    return next(message for message in said if message.tool_calls)


async def test_ollama_streams_thoughts_and_text_with_its_counts(llama, router):
    router.script = [Chunk("Hm.", 1, reasoning=True), Chunk("Ye", 1), Chunk("s.", 1), Done("length", USED)]
    parts = [part async for part in await llama.generate("acme/tiny:latest", "hi", think=True, stream=True)]
    assert ("".join(part.response for part in parts), parts[0].thinking) == ("Yes.", "Hm.")
    assert (parts[-1].done, parts[-1].done_reason, parts[-1].eval_count) == (True, "length", 9)
    assert parts[-1].total_duration >= 200_000_000


async def test_ollama_raises_its_own_errors(llama, router, store):
    with pytest.raises(ollama.ResponseError) as caught:
        await llama.chat("nosuch", HI)
    assert (caught.value.status_code, "nosuch" in caught.value.error) == (404, True)
    router.script = [Chunk("x", 1), EngineCrashed("gone")]
    with pytest.raises(ollama.ResponseError, match="gone"):
        [part async for part in await llama.chat("acme/tiny", HI, stream=True)]
    store.pulls[1:] = [TransferFailed("nobody has it")]
    with pytest.raises(ollama.ResponseError, match="nobody has it"):
        [part async for part in await llama.pull("acme/new", stream=True)]


async def test_ollama_pulls_lists_shows_and_deletes(llama, store):
    progress = [part async for part in await llama.pull("acme/new", stream=True)]
    assert [(part.status, part.completed, part.total) for part in progress][1:] == [
        ("pulling new.gguf", 5, 10),
        ("sharing new.gguf", 10, 10),
        ("success", None, None),
    ]
    first, _ = (await llama.list()).models
    assert (first.model, first.digest) == (TINY.id, TINY.sha256)
    assert (await llama.show("acme/tiny")).details.family == "llama"
    assert (await llama.ps()).models == []
    assert (await llama.delete("acme/tiny")).status == "success"
    assert store.done[-1] == ("remove", TINY.sha256)


async def test_ollama_embeds(llama, router):
    router.answers[Embed] = Embeddings((array("f", [0.5, 0.25]).tobytes(),), 3)
    reply = await llama.embed("acme/tiny", "hi")
    assert (list(reply.embeddings[0]), reply.prompt_eval_count) == ([0.5, 0.25], 3)
    assert list((await llama.embeddings("acme/tiny", "hi")).embedding) == [0.5, 0.25]
