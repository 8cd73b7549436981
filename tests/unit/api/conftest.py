"""Doubles for the API's tests: a catalogue in memory and a router that follows a script; a client without sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio
import httpx
import pytest

from hali.api import ApiDeps, build_app
from hali.api.base import LoadedModel, ModelDetails, PullProgress
from hali.model.errors import AmbiguousName, NotFound
from hali.model.generation import (
    Answer,
    Chunk,
    Detokenize,
    Done,
    Embed,
    Embeddings,
    GenerateRequest,
    GenerationEvent,
    Query,
    Render,
    Rerank,
    Scores,
    Text,
    Tokenize,
    Tokens,
    Usage,
)
from hali.pipeline import RouterStats, ServedModel

OWN = "http://127.0.0.1:47433"
DONE = Done("stop", Usage(prompt_tokens=7, completion_tokens=2, ttft_s=0.1, total_s=0.2))
TINY = ServedModel("tiny:1m:base:q4_0", "ab" * 32, Path("/models/tiny.gguf"), 1_700_000_000, 1000, ("acme/tiny",))
OTHER = ServedModel("other:1m:base:q4_0", "cd" * 32, Path("/models/other.gguf"), 1_700_000_001, 2000)


class MemoryCatalog:
    """Two models; `both` is ambiguous."""

    def list(self) -> list[ServedModel]:
        return [TINY, OTHER]

    def find(self, name: str) -> ServedModel:
        if name == "both":
            raise AmbiguousName("both fits two models", choices=[TINY.id, OTHER.id])
        for model in self.list():
            if name in (model.id, model.sha256, *model.aliases):
                return model
        raise NotFound(f"no model is called {name}")


class ScriptedRouter:
    """Yields `script`; exceptions in it are raised, events waited for."""

    def __init__(self) -> None:
        self.script: list[GenerationEvent | BaseException | anyio.Event] = [Chunk("Hel", 1), Chunk("lo", 1), DONE]
        self.asked: list[tuple[str, GenerateRequest]] = []
        self.keys: list[tuple[str | None, float]] = []
        self.queries: list[tuple[str, Query]] = []
        self.answers: dict[type, Answer | BaseException] = {
            Tokenize: Tokens((1, 2), "hi", (b"h", b"i")),
            Detokenize: Text("hi"),
            Render: Tokens((1, 2), "<hi>"),
            Embed: Embeddings((bytes(8),), 2),
            Rerank: Scores((0.5,), 2),
        }
        self.running = 0
        self.accepting = True

    async def generate(
        self, model: str | ServedModel, request: GenerateRequest, *, key=None, deadline=None, weight=1.0
    ) -> AsyncGenerator[GenerationEvent, None]:
        self.asked.append((model if isinstance(model, str) else model.id, request))
        self.keys.append((key, weight))
        self.running += 1
        try:
            for step in self.script:
                await anyio.lowlevel.checkpoint()
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, anyio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.running -= 1

    async def ask(self, model: str | ServedModel, query: Query, *, key=None, weight=1.0) -> Answer:
        self.queries.append((model if isinstance(model, str) else model.id, query))
        answer = self.answers[type(query)]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stats(self) -> RouterStats:
        return RouterStats(self.accepting, self.running, 0, 0, 0, 0, 0)


class MemoryStore:
    """Models in memory and on disk, without either; remembers what was asked of it."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.in_memory: list[LoadedModel] = []
        self.pulls: list[PullProgress | BaseException | anyio.Event] = [
            PullProgress("resolving", "acme/new", 0, None),
            PullProgress("downloading", "new.gguf", 5, 10),
            PullProgress("seeding", "new.gguf", 10, 10),
        ]
        self.facts = ModelDetails(architecture="llama", parameters=134_515_008, context_length=2048, layers=30)

    async def details(self, model: ServedModel) -> ModelDetails:
        return self.facts

    def loaded(self) -> list[LoadedModel]:
        return self.in_memory

    async def load(self, model: ServedModel) -> None:
        self.done.append(("load", model.id))

    async def unload(self, model: ServedModel) -> None:
        self.done.append(("unload", model.id))

    async def pull(self, what: str) -> AsyncGenerator[PullProgress, None]:
        self.done.append(("pull", what))
        for step in self.pulls:
            await anyio.lowlevel.checkpoint()
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, anyio.Event):
                await step.wait()
            else:
                yield step

    def known(self, name: str) -> str:
        return MemoryCatalog().find(name).sha256

    async def remove(self, sha256: str) -> None:
        self.done.append(("remove", sha256))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def router() -> ScriptedRouter:
    return ScriptedRouter()


@pytest.fixture
def deps(router, store) -> ApiDeps:
    return ApiDeps(catalog=MemoryCatalog(), router=router, models=store)


@pytest.fixture
def client_of() -> Callable[..., httpx.AsyncClient]:
    """`client_of(deps)`: a client of an application built with them."""

    def make(deps: ApiDeps, base_url: str = OWN) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(build_app(deps)), base_url=base_url)

    return make


@pytest.fixture
def client(deps, client_of) -> httpx.AsyncClient:
    return client_of(deps)
