"""Doubles for the API's tests: a catalogue in memory and a router that follows a script; a client without sockets."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest

from hali.api import ApiDeps, build_app
from hali.api.base import LoadedModel, ModelDetails, PullProgress
from hali.model.errors import AmbiguousName, EngineFailed, NotFound
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
from tests.fakes.dashboards import MemoryDashboard

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


def answer_of(query: Query) -> Answer:
    """What a router without a script of its own says: unit vectors, and a letter for each token."""
    match query:
        case Embed(inputs=inputs):
            return Embeddings(tuple(struct.pack("<2f", 1, index) for index in range(len(inputs))), 3 * len(inputs))
        case Detokenize(tokens=tokens):
            return Text("".join(chr(ord("a") + token) for token in tokens))
    raise EngineFailed("this model cannot do that")


class ScriptedRouter:
    """Yields `script`, or what `scripts` has for the n-th request; exceptions in it are raised, events waited for."""

    def __init__(self) -> None:
        self.script: list[GenerationEvent | BaseException | anyio.Event] = [Chunk("Hel", 1), Chunk("lo", 1), DONE]
        self.scripts: list[list[GenerationEvent | BaseException | anyio.Event]] = []
        self.asked: list[tuple[str, GenerateRequest]] = []
        self.keys: list[tuple[str | None, float]] = []
        self.queries: list[tuple[str, Query]] = []
        self.answers: dict[type, Answer | BaseException] = {
            Tokenize: Tokens((1, 2), "hi", (b"h", b"i")),
            Render: Tokens((1, 2), "<hi>"),
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
        number = len(self.asked) - 1
        try:
            for step in self.scripts[number] if self.scripts else self.script:
                await anyio.lowlevel.checkpoint()
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, anyio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.running -= 1

    async def ask(self, model: str | ServedModel, query: Query, *, key=None, deadline=None, weight=1.0) -> Answer:
        await anyio.lowlevel.checkpoint()
        self.queries.append((model if isinstance(model, str) else model.id, query))
        self.keys.append((key, weight))
        answer = self.answers.get(type(query)) or answer_of(query)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stats(self) -> RouterStats:
        return RouterStats(self.accepting, self.running, 0, 0, 0, 0, 0)


async def leave(
    deps: ApiDeps, router: ScriptedRouter, body: dict[str, object], path: str = "/v1/chat/completions"
) -> None:
    """POST as `ann`, straight by ASGI, and go away while the generation is under way."""
    gone, messages = anyio.Event(), [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> dict[str, object]:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        pass

    headers = [
        (b"host", b"127.0.0.1:47433"),
        (b"content-type", b"application/json"),
        (b"authorization", b"Bearer sk-ann"),
        (b"accept", b"application/json, text/event-stream"),
    ]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    scope |= {"server": ("127.0.0.1", 47433), "asgi": {"version": "3.0"}, "http_version": "1.1"}
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(build_app(deps), scope, receive, send)
            while not router.running:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            gone.set()


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

    def keep(self, model: ServedModel, seconds: float | None) -> None:
        self.done.append(("keep", str(seconds)))

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
    return ApiDeps(catalog=MemoryCatalog(), router=router, models=store, dashboard=MemoryDashboard())


@pytest.fixture
def client_of() -> Callable[..., httpx.AsyncClient]:
    """`client_of(deps)`: a client of an application built with them."""

    def make(deps: ApiDeps, base_url: str = OWN) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(build_app(deps)), base_url=base_url)

    return make


@pytest.fixture
def client(deps, client_of) -> httpx.AsyncClient:
    return client_of(deps)


@pytest.fixture
async def background(deps) -> AsyncIterator[None]:
    """What runs on without its client may run, as inside of `ApiServer`."""
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: deps.background.run(task_status=task_status))
        yield
        group.cancel_scope.cancel()
