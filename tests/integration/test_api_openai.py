"""The official openai client against the real server, router and engine with SmolLM2."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import anyio
import openai
import pytest

from hali.api import ApiKey
from hali.model.generation import GenerateRequest, Message, Render
from hali.pipeline import RouterLimits
from tests.near_ties import NEAR_TIE, Case, judge
from tests.serving import COUNT, EXACT, OneFile, serving, streamed
from tests.waiting import until

pytestmark = pytest.mark.model

CONVERSATIONS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You are a poet."},
        {"role": "user", "content": "A line on rain, please — naïve or 詩."},
    ],
    [
        {"role": "user", "content": "My name is Ann."},
        {"role": "assistant", "content": "Hello, Ann."},
        {"role": "user", "content": "What is my name?"},
    ],
]
# llama-cpp-python by itself, in a process of its own: what the API must say word for word.
REFERENCE = """
import json, sys, llama_cpp
llama = llama_cpp.Llama(sys.argv[1], n_ctx=2048, flash_attn=True, verbose=False)
for messages in json.loads(sys.argv[2]):
    llama.reset()
    reply = llama.create_chat_completion(messages, temperature=0, max_tokens=48)
    print(json.dumps([reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"], reply["usage"]]))
"""


@pytest.fixture(scope="module")
def catalog(smollm2: Path) -> OneFile:
    return OneFile(smollm2)


async def test_models_are_listed_and_retrieved(catalog):
    async with serving(catalog) as stack:
        assert [model.id async for model in stack.client.models.list()] == [catalog.model.id]
        for name in (catalog.model.id, "smol", catalog.model.sha256):
            assert (await stack.client.models.retrieve(name)).id == catalog.model.id


async def test_alone_without_speculation_and_at_temperature_0_the_text_is_llama_cpp_pythons_own(catalog):
    command = [sys.executable, "-c", REFERENCE, str(catalog.model.path), json.dumps(CONVERSATIONS)]
    done = await anyio.run_process(command)
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    async with serving(catalog, engine=EXACT) as stack:
        for messages, (text, reason, usage) in zip(CONVERSATIONS, expected, strict=True):
            reply = await stack.client.chat.completions.create(
                model="smol", messages=messages, temperature=0, max_tokens=48
            )
            choice = reply.choices[0]
            assert (choice.message.content, choice.finish_reason) == (text, reason)
            assert {name: getattr(reply.usage, name) for name in usage} == usage
            assert (await streamed(stack.client, messages, temperature=0, max_tokens=48))[0] == text


async def test_as_it_comes_the_text_at_temperature_0_is_llama_cpps_own_or_a_near_tie(catalog):
    cases: list[Case] = []
    async with serving(catalog) as stack:
        for messages in CONVERSATIONS * 2:
            text, chunks = await streamed(stack.client, messages, temperature=0, max_tokens=48)
            turns = tuple(Message(turn["role"], turn["content"]) for turn in messages)
            prompt = await stack.router.ask("smol", Render(GenerateRequest(messages=turns)))
            cases.append((prompt.tokens, text, chunks[-1].choices[0].finish_reason == "stop"))
    verdicts = await judge(catalog.model.path, cases)
    assert all(place.gap < NEAR_TIE for verdict in verdicts for place in verdict.differences)
    assert sum(verdict.tokens for verdict in verdicts) > 100


async def test_eight_at_once_are_all_whole(catalog):
    async with serving(catalog) as stack:
        replies: list[tuple[str, list]] = []

        async def ask(n: int) -> None:
            options = {"temperature": 0.7, "seed": n, "max_tokens": 40, "stream_options": {"include_usage": True}}
            replies.append(await streamed(stack.client, COUNT, **options))

        async with anyio.create_task_group() as group:
            for n in range(8):
                group.start_soon(ask, n)
        assert len(replies) == 8
        for text, chunks in replies:
            *_, last, usage = chunks
            assert chunks[0].choices[0].delta.role == "assistant"
            assert len({chunk.id for chunk in chunks}) == 1
            assert (last.choices[0].finish_reason, usage.choices) in (("length", []), ("stop", []))
            assert last.choices[0].finish_reason == "stop" or usage.usage.completion_tokens == 40
            assert text
        assert len({chunks[0].id for _, chunks in replies}) == 8


async def test_the_same_seed_gives_the_same_text(catalog):
    async with serving(catalog, engine=EXACT) as stack:
        texts = [(await streamed(stack.client, COUNT, seed=7, max_tokens=24))[0] for _ in range(2)]
        assert texts[0] == texts[1]


async def test_a_stop_string_ends_the_text_before_it(catalog):
    async with serving(catalog, engine=EXACT) as stack:
        free, _ = await streamed(stack.client, COUNT, temperature=0, max_tokens=40)
        word = free.split()[3]
        text, chunks = await streamed(stack.client, COUNT, temperature=0, max_tokens=40, stop=[word])
        assert text == free[: free.index(word)]
        assert chunks[-1].choices[0].finish_reason == "stop"


async def test_errors_arrive_as_the_clients_own_exceptions(catalog):
    async with serving(catalog) as stack:
        create = stack.client.chat.completions.create
        with pytest.raises(openai.NotFoundError) as missing:
            await create(model="nosuch", messages=COUNT)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as unsupported:
            await create(model="smol", messages=COUNT, extra_body={"ignore_eos": True})
        assert (unsupported.value.code, unsupported.value.param) == ("unsupported", "ignore_eos")
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as long:
                await create(model="smol", messages=[{"role": "user", "content": "word " * 20_000}], stream=stream)
            assert long.value.code == "context_length_exceeded"
        with pytest.raises(openai.PermissionDeniedError):
            await create(model="smol", messages=COUNT, extra_headers={"Origin": "http://evil.example"})
        with pytest.raises(openai.APIStatusError) as large:
            await create(model="smol", messages=[{"role": "user", "content": "x" * 9_000_000}])
        assert large.value.status_code == 413


async def test_a_required_key_is_asked_for(catalog):
    async with serving(catalog, keys=(ApiKey("ann", "sk-ann"),), require_key=True) as stack:
        with pytest.raises(openai.AuthenticationError):
            await stack.client.models.list()
        known = stack.client.with_options(api_key="sk-ann")
        assert [model.id async for model in known.models.list()] == [catalog.model.id]


async def test_a_full_queue_is_told_with_a_time_to_come_back(catalog):
    limits = RouterLimits(running=1, queued=1)
    async with serving(catalog, limits=limits) as stack, anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(streamed, stack.client, COUNT)
        await until(lambda: stack.router.stats().queued == 1)
        with pytest.raises(openai.InternalServerError) as full:
            await stack.client.chat.completions.create(model="smol", messages=COUNT)
        assert full.value.status_code == 503
        assert int(full.value.response.headers["retry-after"]) >= 1
        group.cancel_scope.cancel()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_slot(catalog, stream):
    async with serving(catalog, limits=RouterLimits(running=1)) as stack:
        await streamed(stack.client, COUNT, max_tokens=1)  # loaded, so that what follows is generation only
        if stream:
            reply = await stack.client.chat.completions.create(model="smol", messages=COUNT, stream=True)
            await anext(reply)
            await reply.close()
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: stack.client.chat.completions.create(model="smol", messages=COUNT))
                await until(lambda: stack.pool.list()[0].active == 1)
                group.cancel_scope.cancel()
        await until(lambda: stack.router.stats().running == 0)
        assert stack.pool.list()[0].active == 0
        assert (await streamed(stack.client, COUNT, max_tokens=4))[0]


async def test_a_killed_worker_ends_the_stream_with_an_error_and_the_next_request_works(catalog):
    async with serving(catalog) as stack:
        stream = await stack.client.chat.completions.create(model="smol", messages=COUNT, stream=True, temperature=0)
        received = [(await anext(stream)).choices[0].delta.content or "" for _ in range(5)]
        (status,) = stack.pool.list()
        os.kill(status.info.pid, signal.SIGKILL)
        with pytest.raises(openai.APIError) as crashed:
            received += [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert crashed.value.code == "engine_crashed"
        assert "SIGKILL" in crashed.value.message
        assert "".join(received)
        text, chunks = await streamed(stack.client, COUNT, temperature=0, max_tokens=8)
        assert text.startswith("".join(received)[:4])
        assert chunks[-1].choices[0].finish_reason == "length"


async def test_a_worker_killed_while_idle_is_not_noticed_by_the_next_request(catalog):
    async with serving(catalog, engine=EXACT) as stack:
        before, _ = await streamed(stack.client, COUNT, temperature=0, max_tokens=8)
        os.kill(stack.pool.list()[0].info.pid, signal.SIGKILL)
        assert (await streamed(stack.client, COUNT, temperature=0, max_tokens=8))[0] == before
