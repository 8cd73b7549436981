"""A serving node without the daemon: server, router, engine and the official openai client, joined as the daemon does."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import openai

from hali.api import ApiDeps, ApiServer, Bind
from hali.engine.options import EngineOptions
from hali.engine.pool import EnginePool
from hali.model.errors import NotFound
from hali.pipeline import InferenceRouter, RouterLimits, ServedModel
from tests.waiting import until

# Alone, the same request then has the same text: tokens guessed ahead change the shapes of batches, as it happens to pay.
EXACT = EngineOptions(speculation="off")
PATIENCE_S = 120  # loading and a few hundred tokens of a 135M model on a busy machine
COUNT = [{"role": "user", "content": "Count from 1 to 200, in words."}]


class OneFile:
    """The catalogue: one model alone, SmolLM2 unless it is named otherwise."""

    def __init__(self, path: Path, name: str = "smollm2:135m:instruct:q4_1", alias: str = "smol") -> None:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.model = ServedModel(name, sha256, path, 1_700_000_000, path.stat().st_size, (alias,))

    def list(self) -> list[ServedModel]:
        return [self.model]

    def find(self, name: str) -> ServedModel:
        if name not in (self.model.id, self.model.sha256, *self.model.aliases):
            raise NotFound(f"no model is called {name}")
        return self.model


@dataclass
class Stack:
    """All parts of one serving node."""

    client: openai.AsyncOpenAI
    router: InferenceRouter
    pool: EnginePool


@asynccontextmanager
async def serving(
    catalog: OneFile,
    *,
    limits: RouterLimits | None = None,
    engine: EngineOptions | None = None,
    **changes: object,
) -> AsyncIterator[Stack]:
    """Everything as the daemon joins it, and a client. Whatever the test does, nothing is left in hand at the end."""
    async with EnginePool(engine) as pool:
        router = InferenceRouter(catalog, pool, limits)
        deps = dataclasses.replace(ApiDeps(catalog=catalog, router=router), **changes)
        async with anyio.create_task_group() as group:
            await group.start(lambda task_status: router.run(task_status=task_status))
            async with answering(deps) as client:
                yield Stack(client, router, pool)
                await until(lambda: (router.stats().running, router.stats().queued) == (0, 0))
            group.cancel_scope.cancel()


@asynccontextmanager
async def answering(deps: ApiDeps) -> AsyncIterator[openai.AsyncOpenAI]:
    """A server with these parts, and a client of it."""
    server = ApiServer(deps, Bind(port=0))
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: server.run(task_status=task_status))
        async with openai.AsyncOpenAI(
            base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
        ) as client:
            with anyio.fail_after(PATIENCE_S):
                yield client
        group.cancel_scope.cancel()


async def streamed(client: openai.AsyncOpenAI, messages: list, **options: object) -> tuple[str, list]:
    """(text, all chunks)."""
    stream = await client.chat.completions.create(model="smol", messages=messages, stream=True, **options)
    chunks = [chunk async for chunk in stream]
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks
