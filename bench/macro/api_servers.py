"""`python -m bench.macro.api_servers hali|hello`: an HTTP server for P19, which prints its address and serves until it is killed.

`hali` is the API as the daemon runs it (gate, keys, metrics, connection caps, its own protocol) over a catalogue of ten
models and a router whose replies begin and then wait; `hello` is uvicorn's smallest application, with the same streams.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import uvicorn

from hali.api.base import ApiDeps
from hali.api.binding import Bind
from hali.api.server import ApiServer
from hali.model.errors import NotFound
from hali.model.generation import Answer, Chunk, GenerateRequest, GenerationEvent, Query
from hali.pipeline.base import ServedModel
from hali.pipeline.router import RouterStats

MODELS = [
    ServedModel(f"bench{i}:7b:instruct:q4_k_m", f"{i:064x}", Path(f"/models/{i}.gguf"), 1_700_000_000, 4 << 30, (f"b{i}.gguf",))
    for i in range(10)
]  # fmt: skip


class Models:
    """A catalogue in memory, as the library is."""

    def list(self) -> list[ServedModel]:
        """All ten."""
        return MODELS

    def find(self, name: str) -> ServedModel:
        """One of them by its id."""
        for model in MODELS:
            if model.id == name:
                return model
        raise NotFound(name)


class Waiting:
    """A router whose replies say one word and then nothing, until their client leaves."""

    async def generate(
        self, model: str | ServedModel, request: GenerateRequest, **_: Any
    ) -> AsyncGenerator[GenerationEvent, None]:
        """A word."""
        yield Chunk("word", 1)
        await anyio.sleep_forever()

    async def ask(self, model: str | ServedModel, query: Query, **_: Any) -> Answer:
        """Nobody asks."""
        raise NotFound("nothing is asked here")

    def stats(self) -> RouterStats:
        """It is there."""
        return RouterStats(True, 0, 0, 0, 0, 0, 0)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """GET: hello; POST: a stream that begins and then waits for its client to leave."""
    kind = b"text/plain" if scope["method"] == "GET" else b"text/event-stream"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if scope["method"] == "GET":
        await send({"type": "http.response.body", "body": b"hello"})
        return
    await send({"type": "http.response.body", "body": b"data: word\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def serve_hali() -> None:
    """The API on a free port."""
    server = ApiServer(ApiDeps(catalog=Models(), router=Waiting()), Bind(port=0))
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: server.run(task_status=task_status))
        print(server.address, flush=True)


async def serve_hello() -> None:
    """uvicorn with what it takes by itself, without a line for each request, which hali's API does not write either."""
    server = uvicorn.Server(
        uvicorn.Config(hello, port=0, lifespan="off", access_log=False, log_level="error", ws="none")
    )
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        while not server.started:  # noqa: ASYNC110  # uvicorn tells it in no other way
            await anyio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    anyio.run({"hali": serve_hali, "hello": serve_hello}[sys.argv[1]])
