"""How fast a model answers here: prefill and decode, as llama-bench names them, but through the router and the engine that users get."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Protocol

import anyio
import msgspec

from hali.model.errors import Failed, HaliError
from hali.model.generation import Done, GenerateRequest, GenerationEvent, SamplingParams
from hali.pipeline.base import ServedModel

FIRST_TOKEN = 300  # below lie the special tokens and single bytes of most vocabularies


class Generates(Protocol):
    """The router, or a double."""

    def generate(
        self, model: str | ServedModel, request: GenerateRequest, **options: Any
    ) -> AsyncGenerator[GenerationEvent, None]:
        """Chunks, then `Done`."""


class Test(msgspec.Struct, frozen=True):
    """One line of the table."""

    name: str
    prompt: int
    generate: int
    streams: int
    writes: bool  # whether what is written is measured, or what is read


class Plan(msgspec.Struct, frozen=True):
    """What to measure: tokens of a prompt, tokens to generate (0 = not), how many requests at once, how often each."""

    prompt: int
    generate: int
    streams: tuple[int, ...]
    repeat: int

    def tests(self) -> Iterator[Test]:
        """`pp512` reads a prompt, `tg128` writes a reply."""
        for streams in self.streams:
            if self.prompt:
                yield Test(f"pp{self.prompt}", self.prompt, 1, streams, writes=False)
            if self.generate:
                # One more: the first token belongs to the prompt.
                yield Test(f"tg{self.generate}", 1, self.generate + 1, streams, writes=True)


class Result(msgspec.Struct, frozen=True):
    """Tokens a second over all streams: median, lowest, highest; and each run's."""

    test: str
    streams: int
    tokens_per_s: float
    low: float
    high: float
    runs: tuple[float, ...]


class Reading(msgspec.Struct, frozen=True):
    """One request as its client saw it: when its first event came and when it ended, tokens in and out."""

    first_at: float
    end_at: float
    prompt: int
    made: int


class Bench:
    """Measures one model. Prompts are random tokens of a fixed seed, all different, so that nothing is read from a cache."""

    def __init__(self, router: Generates, model: ServedModel, n_vocab: int) -> None:
        self._router, self._model, self._n_vocab = router, model, n_vocab
        self._random = random.Random(1)

    async def run(self, plan: Plan) -> AsyncGenerator[Result, None]:
        """A result for each test, in order; each is run once before it counts, to warm up."""
        for test in plan.tests():
            await self._once(test)
            runs = tuple([await self._once(test) for _ in range(plan.repeat)])
            yield Result(test.name, test.streams, statistics.median(runs), min(runs), max(runs), runs)

    async def _once(self, test: Test) -> float:
        readings: list[Reading] = []
        requests = [self._request(test.prompt, test.generate) for _ in range(test.streams)]
        began = time.monotonic()
        try:
            async with anyio.create_task_group() as group:
                for request in requests:
                    group.start_soon(self._read, request, readings)
        except* HaliError as errors:  # one is enough to know that nothing was measured
            raise errors.exceptions[0] from None
        return write_rate(readings) if test.writes else read_rate(readings, began)

    def _request(self, prompt: int, generate: int) -> GenerateRequest:
        low = min(FIRST_TOKEN, self._n_vocab // 2)
        tokens = tuple(self._random.randrange(low, self._n_vocab) for _ in range(prompt))
        # As `hali run` samples; without an end before `generate` tokens.
        sampling = SamplingParams(temperature=0.7, seed=1, max_tokens=generate, min_tokens=generate)
        return GenerateRequest(tokens=tokens, sampling=sampling)

    async def _read(self, request: GenerateRequest, into: list[Reading]) -> None:
        first: float | None = None
        async with aclosing(self._router.generate(self._model, request)) as events:
            async for event in events:
                now = time.monotonic()
                first = now if first is None else first
                if isinstance(event, Done):
                    into.append(Reading(first, now, event.usage.prompt_tokens, event.usage.completion_tokens))


def read_rate(readings: list[Reading], began: float) -> float:
    """Prompt tokens a second until the last stream has its first token."""
    return sum(each.prompt for each in readings) / max(max(each.end_at for each in readings) - began, 1e-9)


def write_rate(readings: list[Reading]) -> float:
    """Tokens a second after the first of each stream, from the first to the last of all."""
    made = sum(each.made - 1 for each in readings)
    if made <= 0:
        raise Failed("the model made no tokens to measure")
    return made / max(max(each.end_at for each in readings) - min(each.first_at for each in readings), 1e-9)
