"""What a bench asks for and how it counts, with a router whose clock is known."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hali.daemon.benching import Bench, Plan, Reading, read_rate, write_rate
from hali.model.errors import Failed, Overloaded
from hali.model.generation import Chunk, Done, GenerateRequest, GenerationEvent, Usage
from hali.pipeline.base import ServedModel

MODEL = ServedModel("tiny", "ab" * 32, Path("/tiny"), 0, 1)


class Router:
    """Answers at once; keeps what was asked and how many were under way together."""

    def __init__(self, fail_with: Exception | None = None) -> None:
        self.asked: list[GenerateRequest] = []
        self.running = self.most = 0
        self._fail_with = fail_with

    async def generate(self, model: Any, request: GenerateRequest, **_: Any) -> AsyncGenerator[GenerationEvent, None]:
        self.asked.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        await anyio.sleep(0.001)
        if self._fail_with:
            raise self._fail_with
        count = request.sampling.max_tokens or 0
        yield Chunk("x", count)
        self.running -= 1
        yield Done("length", Usage(len(request.tokens or ()), count, 0.1, 0.2))


async def test_each_test_is_run_once_more_than_it_counts_with_prompts_that_all_differ() -> None:
    router = Router()
    results = [result async for result in Bench(router, MODEL, 1000).run(Plan(8, 4, (1, 3), 2))]
    assert [(each.test, each.streams, len(each.runs)) for each in results] == [
        ("pp8", 1, 2),
        ("tg4", 1, 2),
        ("pp8", 3, 2),
        ("tg4", 3, 2),
    ]
    assert all(each.low <= each.tokens_per_s <= each.high for each in results)
    assert len(router.asked) == 3 * (1 + 1 + 3 + 3) and router.most == 3
    prompts = [request.tokens for request in router.asked if len(request.tokens or ()) == 8]
    assert len(set(prompts)) == len(prompts) == 12
    # A reply never ends early: it would be measured as a shorter one.
    assert {(r.sampling.max_tokens, r.sampling.min_tokens) for r in router.asked} == {(1, 1), (5, 5)}


def test_rates_are_tokens_of_all_streams_by_the_time_of_the_last() -> None:
    readings = [Reading(first_at=1.0, end_at=3.0, prompt=100, made=11), Reading(1.5, 5.0, 100, 11)]
    assert read_rate(readings, 0.0) == 200 / 5.0
    assert write_rate(readings) == 20 / 4.0
    with pytest.raises(Failed, match="no tokens"):
        write_rate([Reading(1.0, 1.0, 1, 1)])


async def test_the_error_of_one_stream_is_the_error_of_the_bench() -> None:
    with pytest.raises(Overloaded, match="full"):
        async for _ in Bench(Router(Overloaded("the queue is full")), MODEL, 1000).run(Plan(8, 0, (2,), 1)):
            pass
