"""Greedy text stays llama.cpp's own, whatever else runs, is kept from before, or is guessed ahead.

Alone and without speculation it is so byte for byte, with a warm cache too where the prompt has less than `TILE` tokens:
longer ones are computed by another kernel than what is left of them to do. By that, and in other company, rows are
summed in another order, and a place where two tokens are nearly tied may go the other way: each such place is shown with
its gap, which must be below `NEAR_TIE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from hali.engine.options import EngineOptions
from hali.engine.prefix import BLOCK, GRAIN
from hali.engine.process import EngineProcess
from hali.engine.speculate import Speculation
from hali.model.generation import Chunk, Done, GenerateRequest, Message, Render, SamplingParams, Tokens, Usage
from tests.fakes.thinned import thinned
from tests.near_ties import NEAR_TIE, Case, Verdict, judge

pytestmark = pytest.mark.model

OPTIONS = EngineOptions(n_kv=16384, n_seq_max=16, threads=1, threads_batch=1)
OTHERS = 8
TILE = 64  # rows, from which on ggml's flash attention takes them together
THINGS = ("sea", "moon", "wolf", "clock", "bread", "river", "king", "robot", "snow", "fire")
TASKS = ("Tell me about the {}.", "Write ten short lines that all begin with the word {}.")
STORY = "".join(f"In year {i} the {THINGS[i % 10]} was seen by {i * 7} people in the town.\n" for i in range(8))
PROMPTS = [
    *(task.format(thing) for thing in THINGS[1:] for task in TASKS),
    STORY + "Repeat the last three lines.",
    STORY + "Who saw the king?",
]


def _ask(prompt: str, tokens: int) -> GenerateRequest:
    return GenerateRequest(
        messages=(Message("user", prompt),), sampling=SamplingParams(temperature=0.0, max_tokens=tokens), logprobs=0
    )


Reply = tuple[tuple[int, ...], Done]  # the tokens that were sampled


async def _reply(engine: EngineProcess, request: GenerateRequest) -> Reply:
    events = [event async for event in engine.generate(request)]
    assert isinstance(events[-1], Done)
    chunks = [event for event in events if isinstance(event, Chunk)]
    said = tuple(told.chosen.token for chunk in chunks for told in chunk.logprobs)
    assert len(said) == events[-1].usage.completion_tokens
    return said, events[-1]


async def _alone(engine: EngineProcess, requests: Sequence[GenerateRequest]) -> list[Reply]:
    return [await _reply(engine, request) for request in requests]


async def _busy(engine: EngineProcess, requests: Sequence[GenerateRequest]) -> list[Reply]:
    """Each with `OTHERS` others all the time: as many as needed say long things until the last reply is there."""
    replies: dict[int, Reply] = {}

    async def one(number: int) -> None:
        replies[number] = await _reply(engine, requests[number])

    async def other(number: int) -> None:
        while True:
            await _reply(engine, _ask(f"Count from {number} to 1000.", 300))

    async with anyio.create_task_group() as noise:
        for number in range(max(0, OTHERS + 1 - len(requests))):
            noise.start_soon(other, number)
        async with anyio.create_task_group() as group:
            for number in range(len(requests)):
                group.start_soon(one, number)
        noise.cancel_scope.cancel()
    return [replies[number] for number in range(len(requests))]


async def _case(engine: EngineProcess, request: GenerateRequest, reply: Reply) -> Case:
    prompt = await engine.ask(Render(request))
    assert isinstance(prompt, Tokens)
    return prompt.tokens, reply[0], reply[1].reason == "stop"


def _show(what: str, verdicts: list[Verdict]) -> None:
    places = [place for verdict in verdicts for place in verdict.differences]
    print(f"{what}: {len(places)} of {sum(verdict.tokens for verdict in verdicts)} tokens differ")
    for place in places:
        print(f"  token {place.step}: theirs {place.theirs!r}, ours {place.ours!r}, gap {place.gap:.3f}")
    assert all(place.gap < NEAR_TIE for place in places)


def _same_kernels(usage: Usage) -> bool:
    return usage.cached_tokens == 0 or usage.prompt_tokens < TILE


async def _compare(
    path: Path, prompts: Sequence[str], tokens: int, speculation: Speculation, draft: Path | None = None
) -> None:
    requests = [_ask(prompt, tokens) for prompt in prompts]
    engine = EngineProcess("smollm2")
    await engine.start(path, replace(OPTIONS, speculation=speculation, draft=draft and str(draft)))
    try:
        replies = {
            "alone, cold": await _alone(engine, requests),
            "alone, warm": await _alone(engine, requests),
            "with others, warm": await _busy(engine, requests),
        }
        stats = engine.stats()
        cases = {
            name: [await _case(engine, *pair) for pair in zip(requests, found, strict=True)]
            for name, found in replies.items()
        }
    finally:
        await engine.stop()
    distinct = list(dict.fromkeys(case for found in cases.values() for case in found))
    verdicts = dict(zip(distinct, await judge(path, distinct), strict=True))
    for name, found in cases.items():
        _show(f"speculation {speculation}, {name}", [verdicts[case] for case in found])
        if speculation == "off" and name.startswith("alone"):
            exact = [case for case, (_, done) in zip(found, replies[name], strict=True) if _same_kernels(done.usage)]
            assert exact
            assert not any(verdicts[case].differences for case in exact), "byte for byte"
    warm = [done.usage for _, done in replies["alone, warm"]]
    assert all(usage.cached_tokens >= usage.prompt_tokens - BLOCK - GRAIN for usage in warm)
    assert (stats.drafted > 0) == (speculation != "off")


@pytest.mark.parametrize("speculation", ["off", "always"])
async def test_greedy_text_is_llama_cpps_own_or_a_near_tie(smollm2: Path, speculation: Speculation) -> None:
    await _compare(smollm2, [*PROMPTS[:2], PROMPTS[-2]], 32, speculation)


@pytest.mark.parametrize("without", [(), (10, 15, 20)], ids=["itself", "smaller"])
async def test_greedy_text_is_llama_cpps_own_or_a_near_tie_whatever_a_draft_model_guesses(
    smollm2: Path, without: tuple[int, ...], tmp_path: Path
) -> None:
    draft = thinned(smollm2, tmp_path / "draft.gguf", without=without)
    await _compare(smollm2, [PROMPTS[1], PROMPTS[-2]], 24, "always", draft)


@pytest.mark.long
@pytest.mark.parametrize("speculation", ["off", "always", "auto"])
async def test_greedy_text_is_llama_cpps_own_or_a_near_tie_in_twenty_long_replies(
    smollm2: Path, speculation: str
) -> None:
    await _compare(smollm2, PROMPTS, 200, speculation)
