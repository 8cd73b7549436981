"""Requests that begin alike compute that beginning once, on the real model; and nothing of it outlives the switch."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hali.engine.options import EngineOptions
from hali.engine.prefix import BLOCK, GRAIN
from hali.engine.process import EngineProcess
from hali.model.generation import Chunk, Done, GenerateRequest, Message, SamplingParams, Usage
from tests.fakes.tiny_models import Tiny, gemma2, mamba

pytestmark = pytest.mark.model

SYSTEM = "You answer briefly. " + " ".join(
    f"Rule {number}: be polite and say nothing about {number}." for number in range(16)
)
OPTIONS = EngineOptions(n_ctx=1024, threads=1, threads_batch=1, speculation="off")


def ask(text: str, *before: Message, tokens: int = 8) -> GenerateRequest:
    messages = (Message("system", SYSTEM), *before, Message("user", text))
    return GenerateRequest(messages=messages, sampling=SamplingParams(temperature=0.0, max_tokens=tokens))


async def reply(engine: EngineProcess, request: GenerateRequest) -> tuple[str, Usage]:
    events = [event async for event in engine.generate(request)]
    assert isinstance(events[-1], Done)
    return "".join(event.text for event in events if isinstance(event, Chunk)), events[-1].usage


async def test_a_shared_beginning_is_computed_once_by_those_who_come_together_and_by_those_who_come_later(
    smollm2: Path,
) -> None:
    engine = EngineProcess("test")
    usages: list[Usage] = []
    await engine.start(smollm2, OPTIONS)
    try:

        async def chat(number: int) -> None:
            usages.append((await reply(engine, ask(f"What about {number}?")))[1])

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(chat, number)
        together = engine.stats()
        hello = "Hello there. " * 12
        first, later = await reply(engine, ask(hello))
        _, turn = await reply(engine, ask("And now?", Message("user", hello), Message("assistant", first)))
        after = engine.stats()
    finally:
        await engine.stop()
    shared = usages[0].prompt_tokens - 12  # what the four have in common, and a few tokens of the question
    assert shared > 200
    assert sorted(usage.cached_tokens >= shared - GRAIN for usage in usages) == [False, True, True, True]
    assert together.prompt_tokens < 2 * shared, "computed once, besides the four questions"
    assert later.cached_tokens >= shared - BLOCK - GRAIN
    assert turn.cached_tokens > later.cached_tokens, "the last turn is kept as well"
    assert (together.cache_hits, after.cache_hits) == (3, 5)
    assert after.cache_hit_tokens == sum(usage.cached_tokens for usage in (*usages, later, turn))
    assert after.cached_tokens > 0
    assert after.cached_bytes > 0
    assert after.kv_used == 0, "what is kept takes nothing of the KV cache"


async def test_switched_off_every_prompt_is_computed_whole(smollm2: Path) -> None:
    engine = EngineProcess("test")
    await engine.start(smollm2, EngineOptions(n_ctx=1024, threads=1, threads_batch=1, prefix_cache=False))
    try:
        request = ask("Hello there.", tokens=2)
        _, one = await reply(engine, request)
        _, other = await reply(engine, request)
        stats = engine.stats()
    finally:
        await engine.stop()
    assert (one.cached_tokens, other.cached_tokens, stats.cached_tokens, stats.cached_bytes) == (0, 0, 0, 0)
    assert stats.prompt_tokens == 2 * one.prompt_tokens


@pytest.mark.parametrize("tiny", [mamba(), gemma2()], ids=lambda tiny: tiny.arch)
async def test_a_model_that_cannot_go_back_does_without_the_cache_and_without_guesses(
    tiny: Tiny, tmp_path: Path
) -> None:
    engine = EngineProcess("test")
    await engine.start(
        tiny.write(tmp_path / "tiny.gguf"), EngineOptions(threads=1, threads_batch=1, speculation="always")
    )
    request = GenerateRequest(prompt="abcd" * 50, sampling=SamplingParams(temperature=0.0, max_tokens=80))
    try:
        alone, one = await reply(engine, request)
        again, other = await reply(engine, request)
        stats = engine.stats()
    finally:
        await engine.stop()
    assert alone == again
    assert one.completion_tokens > 0
    assert (other.cached_tokens, stats.cached_tokens, stats.drafted) == (0, 0, 0)
