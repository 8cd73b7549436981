"""Doubles for the router's tests: a catalogue in memory, engines that follow a script."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio
import pytest

from hali.model.errors import NotFound
from hali.model.generation import Chunk, Done, GenerateRequest, GenerationEvent, Usage
from hali.pipeline.base import ServedModel

USAGE = Usage(prompt_tokens=3, completion_tokens=2, ttft_s=0.1, total_s=0.2)
DONE = Done("stop", USAGE)
MODEL = ServedModel("tiny:1m:base:q4_0", "ab" * 32, Path("/models/tiny.gguf"), 1_700_000_000, 1000, ("tiny",))

Step = GenerationEvent | BaseException | anyio.Event | Callable[[], None]


class MemoryCatalog:
    """One model."""

    def list(self) -> list[ServedModel]:
        return [MODEL]

    def find(self, name: str) -> ServedModel:
        if name in (MODEL.id, MODEL.sha256, *MODEL.aliases):
            return MODEL
        raise NotFound(f"no model {name}")


class ScriptedEngines:
    """Pool and engine in one. Each generation follows the next script; `running` counts those not yet closed."""

    def __init__(self) -> None:
        self.scripts: list[list[Step]] = []
        self.default: list[Step] = [Chunk("Hel", 1), Chunk("lo", 1), DONE]
        self.asked: list[GenerateRequest] = []
        self.acquired: list[tuple[str, Path]] = []
        self.load_errors: list[Exception] = []
        self.running = 0
        self.most = 0

    async def generate(self, model_id: str, path: Path, request: GenerateRequest) -> AsyncGenerator[GenerationEvent]:
        await anyio.lowlevel.checkpoint()
        self.acquired.append((model_id, path))
        if self.load_errors:
            raise self.load_errors.pop(0)
        self.asked.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for step in self.scripts.pop(0) if self.scripts else self.default:
                await anyio.lowlevel.checkpoint()
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, anyio.Event):
                    await step.wait()
                elif isinstance(step, Chunk | Done):
                    yield step
        finally:
            with anyio.CancelScope(shield=True):  # an engine takes a moment to say goodbye
                await anyio.lowlevel.checkpoint()
            self.running -= 1


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog()


@pytest.fixture
def engines() -> ScriptedEngines:
    return ScriptedEngines()


@pytest.fixture
def done() -> Done:
    return DONE


@pytest.fixture
def model() -> ServedModel:
    return MODEL
