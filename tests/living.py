"""A whole node inside the test's process, each of whose services can be killed from within. The product has no such switch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc
import msgspec
import pytest

from hali.config import identity
from hali.config.load import load
from hali.config.paths import Paths
from hali.daemon import node as composition
from hali.daemon.node import Node
from hali.daemon.published import Published
from hali.engine.fitting import Fitted
from hali.engine.options import EngineOptions, EngineStats
from hali.engine.pool import EnginePool
from hali.model.generation import Chunk, Done, EngineInfo, GenerateRequest, GenerationEvent, Usage
from hali.runtime.supervisor import Service, Status
from hali.store.database import Database
from tests.conftest import blocking_calls_fail

READY_S = 60.0


class Killed(RuntimeError):
    """What a service dies of here."""


class Talker:
    """An engine that says a word every hundredth of a second until `enough`."""

    enough: anyio.Event

    def __init__(self, model_id: str) -> None:
        self.model_id, self.alive, self.progress = model_id, False, 1.0
        self.info: EngineInfo | None = None

    async def start(self, path: Path, options: EngineOptions) -> EngineInfo:
        self.alive, self.info = True, EngineInfo(self.model_id, 1, 64, 1, 10, 2, 0, 2, "llama")
        return self.info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerationEvent]:
        while not self.enough.is_set():
            yield Chunk("word ", 1)
            await anyio.sleep(0.01)
        yield Done("stop", Usage(1, 1, 0.1, 0.2))

    async def stop(self, *, drain: bool = False) -> None:
        self.alive = False

    def stats(self) -> EngineStats:
        return EngineStats()


async def _fits(path: Path, options: EngineOptions, room: int | None) -> Fitted:
    return Fitted(options, 100, True)


class LivingNode:
    """`node`, what its services went through since they were all ready, and the means to kill them."""

    def __init__(self, paths: Paths, settings: dict[str, str]) -> None:
        loaded = load(paths.config, env={}, flags=settings)
        self.node = Node(paths, loaded, identity.load_or_create(paths.identity), Database(paths.database), ())
        self.lives: dict[str, list[Service]] = {}
        self.states: list[tuple[str, str]] = []
        self._bombs: dict[str, anyio.Event] = {}
        for name, unit in self.node.supervisor._units.items():
            unit.spec = msgspec.structs.replace(unit.spec, factory=partial(self._built, name, unit.spec.factory))
            unit._told = partial(self._hear, unit._told)

    def _hear(self, told: Any, before: Status, now: Status) -> None:
        told(before, now)
        self.states.append((now.name, now.state))

    def _built(self, name: str, factory: Any) -> Service:
        made = factory()
        if isinstance(made, Published):  # what is published must be the service itself
            build = made._build
            made._build = lambda: self._armed(name, build())
            return made
        return self._armed(name, made)

    def _armed(self, name: str, service: Any) -> Service:
        self.lives.setdefault(name, []).append(service)
        bomb = self._bombs[name] = anyio.Event()
        inside = service._deps.background if name == "ApiServer" else service
        run = type(inside).run.__get__(inside)  # those that are restarted as the same object are armed anew

        async def mortal(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(_explode, bomb)
                await run(task_status=task_status)

        inside.run = mortal
        return cast(Service, service)

    def kill(self, name: str) -> None:
        """Let the service's `run` raise: of the API server a part of it, of the others all at once."""
        self.states.clear()
        self._bombs[name].set()

    async def is_back(self, name: str) -> None:
        """Wait until the service has failed and is ready again."""
        with anyio.fail_after(READY_S):
            while (name, "ready") not in self.states:
                await anyio.sleep(0.01)


async def _explode(bomb: anyio.Event) -> None:
    await bomb.wait()
    raise Killed("killed by a test")


@asynccontextmanager
async def living(home: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> AsyncIterator[LivingNode]:
    """A running node with engines of `Talker`'s kind; settings as `node` of tests/nodes.py has them."""
    Talker.enough = anyio.Event()
    monkeypatch.setattr(composition, "EnginePool", partial(EnginePool, launch=Talker, fit=_fits))
    paths = Paths(home)
    paths.create()
    given = {"daemon_port": "0", "torrent.lsd": "off", "torrent.loopback_peers": "on"} | settings
    made = LivingNode(paths, given)
    try:
        async with made.node.running():
            made.states.clear()
            with blocking_calls_fail():  # not before: at its start a node reads its files before anybody waits for it
                yield made
    finally:
        made.node.close()
