"""The real ApiServer in a process of its own, for tests that attack it: `python -m tests.fakes.api_process KIND LIMITS [GGUF]`.

KIND `guarded` answers with scripted engines, `stock` serves the same application by uvicorn's own protocol, `real` has llama.cpp.
LIMITS is JSON of `ApiLimits` and `RouterLimits`. The address goes to standard output; after each line on standard input a line of
JSON says what is in hand. The end of standard input is the end.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hali.api import ApiDeps, ApiKey, ApiLimits, ApiServer, Bind
from hali.engine.options import EngineOptions
from hali.engine.pool import EnginePool
from hali.model.errors import NotFound
from hali.model.generation import Chunk, Done, GenerateRequest, GenerationEvent, Usage
from hali.pipeline import InferenceRouter, RouterLimits, RouterStats, ServedModel

MODEL_ID = "tiny:1m:base:q4_0"
FILES = 16_384  # descriptors: above all that the tests open
LARGE = 10_000_001  # max_tokens that ask the scripted engine for more than the sockets buffer
SECRET = "sk-of-the-healthy"


class OneModel:
    """The catalogue."""

    def __init__(self, path: Path) -> None:
        self._model = ServedModel(MODEL_ID, "ab" * 32, path, 1_700_000_000, 1000)

    def list(self) -> list[ServedModel]:
        return [self._model]

    def find(self, name: str) -> ServedModel:
        if name != MODEL_ID:
            raise NotFound(f"no model {name}")
        return self._model


class Scripted:
    """Engines: one word for each request, or 300 KB in one chunk (`LARGE`)."""

    async def generate(
        self, model_id: str, path: Path, request: GenerateRequest
    ) -> AsyncGenerator[GenerationEvent, None]:
        await anyio.lowlevel.checkpoint()
        yield Chunk("x" * (300_000 if request.sampling.max_tokens == LARGE else 5), 1)
        yield Done("stop", Usage(prompt_tokens=7, completion_tokens=1, ttft_s=0.1, total_s=0.2))


class Stock(ApiServer):
    """Without the defence: uvicorn's own protocol."""

    def _config(self, app: Any) -> uvicorn.Config:
        config = super()._config(app)
        config.http = H11Protocol
        return config


class Process:
    """What runs, by the arguments."""

    def __init__(self, kind: str, limits: dict[str, Any], path: Path) -> None:
        self._router_limits = msgspec.convert(limits.get("router", {}), RouterLimits)
        self._api_limits = msgspec.convert(limits.get("api", {}), ApiLimits)
        self._kind, self._catalog = kind, OneModel(path)
        self._pool = EnginePool(EngineOptions(n_ctx=512, n_seq_max=self._router_limits.running))
        self._router: InferenceRouter
        self._server: ApiServer

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(anyio.create_task_group())
            engines: Any = await stack.enter_async_context(self._pool) if self._kind == "real" else Scripted()
            self._router = InferenceRouter(self._catalog, engines, self._router_limits)
            await group.start(_run, self._router)
            keys = (ApiKey("healthy", SECRET),)
            deps = ApiDeps(self._catalog, self._router, keys, limits=self._api_limits)
            # All of 127.0.0.0/8 can connect to an address of it.
            self._server = (Stock if self._kind == "stock" else ApiServer)(deps, Bind("127.0.0.1", 0))
            await group.start(_run, self._server)
            print(self._server.address, flush=True)
            while await anyio.to_thread.run_sync(sys.stdin.readline):
                print(json.dumps(self._state()), flush=True)
            group.cancel_scope.cancel()

    def _state(self) -> dict[str, Any]:
        stats: RouterStats = self._router.stats()
        engines = [{"active": e.active, **msgspec.to_builtins(e.stats)} for e in self._pool.list()]
        return {"connections": len(self._server.connections), **msgspec.to_builtins(stats), "engines": engines}


async def _run(service: Any, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await service.run(task_status=task_status)


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    anyio.run(Process(sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])).run)
