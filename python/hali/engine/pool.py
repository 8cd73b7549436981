"""Engines on demand: one process a model, started once for all who ask, stopped when others need the room."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import anyio.abc
import msgspec

from hali.engine.options import EngineOptions, EngineStats
from hali.engine.process import EngineProcess
from hali.model.errors import Cancelled, HaliError, NotFound, NotRunning, Overloaded
from hali.model.generation import Answer, EngineInfo, GenerateRequest, GenerationEvent, Query
from hali.model.splits import parts_beside
from hali.runtime.log import get_logger
from hali.runtime.trace import stage

log = get_logger(__name__)

RETRY_AFTER_S = 10  # told to clients when every engine is busy: about one reply


class PoolLimits(msgspec.Struct, frozen=True):
    """How much the pool may hold. None = no limit."""

    max_engines: int = 2  # a second model while the first answers; each holds its weights in memory
    memory_bytes: int | None = None  # of all engines together, as they measured it, and the file of the next one
    keep_alive_s: float | None = 600.0  # an engine nobody used for so long is stopped; reloading takes seconds


class EngineStatus(msgspec.Struct, frozen=True):
    """One line of `hali ps`."""

    model_id: str
    path: str
    state: Literal["loading", "ready", "stopping"]
    progress: float  # of loading, 0 to 1
    active: int  # requests in flight
    idle_s: float | None  # since the last request ended; None while one runs or it loads
    info: EngineInfo | None
    stats: EngineStats


@dataclass(eq=False)
class _Entry:
    """An engine of the pool. `settled` is set when its start has succeeded or failed."""

    path: Path
    engine: EngineProcess
    settled: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    error: HaliError | None = None
    active: int = 0
    used: float = field(default_factory=time.monotonic)
    stopping: bool = False

    @property
    def usable(self) -> bool:
        """Loading, or alive and meant to stay so."""
        return not self.stopping and (not self.settled.is_set() or (self.error is None and self.engine.alive))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Somebody would miss it while the block runs."""
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self.used = time.monotonic()

    @property
    def idle(self) -> bool:
        """Nobody would miss it now."""
        return self.settled.is_set() and self.active == 0


class EnginePool:
    """`async with EnginePool(options) as pool:`; on exit every engine is stopped and no process is left.

    `launch` makes the process object, so that tests can do without llama.cpp.
    """

    def __init__(
        self,
        options: EngineOptions | None = None,
        limits: PoolLimits | None = None,
        *,
        launch: Callable[[str], EngineProcess] = EngineProcess,
    ) -> None:
        self._options, self._limits = options or EngineOptions(), limits or PoolLimits()
        self._launch = launch
        self._entries: dict[str, _Entry] = {}
        self._room = anyio.Lock()  # one start at a time decides who must go for it
        self._stack = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._tasks.start_soon(self._retire_idle, name="engine-pool keep-alive")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        with anyio.CancelScope(shield=True):  # each stop has its own deadline
            await self.aclose()
        self._tasks.cancel_scope.cancel()
        await self._stack.__aexit__(kind, error, trace)

    # --- requests

    async def generate(
        self, model_id: str, path: Path, request: GenerateRequest, options: EngineOptions | None = None
    ) -> AsyncGenerator[GenerationEvent]:
        """Like EngineProcess.generate, with the engine started first if it does not run."""
        entry = await self._ready(model_id, path, options)
        with entry.in_use():
            async with aclosing(entry.engine.generate(request)) as events:
                async for event in events:
                    yield event

    async def ask(self, model_id: str, path: Path, query: Query) -> Answer:
        """Like EngineProcess.ask, with the engine started first if it does not run."""
        entry = await self._ready(model_id, path, None)
        with entry.in_use():
            return await entry.engine.ask(query)

    async def load(self, model_id: str, path: Path, options: EngineOptions | None = None) -> EngineInfo:
        """Start the engine if it does not run; what it says about itself."""
        info = (await self._ready(model_id, path, options)).engine.info
        assert info is not None
        return info

    def info(self, model_id: str) -> EngineInfo | None:
        """Of a loaded engine; None if it is not loaded."""
        entry = self._entries.get(model_id)
        return entry.engine.info if entry is not None and entry.settled.is_set() and entry.usable else None

    def list(self) -> list[EngineStatus]:
        """All engines that run or load, in the order of their start."""
        return [_status(model_id, entry) for model_id, entry in self._entries.items() if entry.usable or entry.stopping]

    async def stop(self, model_id: str, *, drain: bool = False) -> None:
        """Stop one engine, also one that loads; NotFound if there is none."""
        entry = self._entries.get(model_id)
        if entry is None or not (entry.usable or entry.stopping):
            raise NotFound(f"no engine runs for {model_id}")
        await self._end(model_id, entry, drain=drain)

    async def aclose(self) -> None:
        """Stop every engine; the pool can be used again."""
        async with anyio.create_task_group() as group:
            for model_id, entry in [*self._entries.items()]:
                group.start_soon(self._end, model_id, entry)

    # --- starting

    async def _ready(self, model_id: str, path: Path, options: EngineOptions | None) -> _Entry:
        """The entry of a loaded engine; all who ask while it loads wait for the same start."""
        if self._tasks is None:
            raise NotRunning("the engine pool is not open")
        entry = self._entries.get(model_id)
        if entry is None or not entry.usable:
            entry = self._entries[model_id] = _Entry(path, self._launch(model_id))
            # In the pool's own task: who asked first may give up while others still wait.
            self._tasks.start_soon(self._start, model_id, entry, options or self._options, name=f"engine {model_id}")
        with entry.in_use(), stage("load"):
            await entry.settled.wait()  # EngineOptions.start_timeout_s bounds it
        if entry.error is not None:
            raise entry.error
        return entry

    async def _start(self, model_id: str, entry: _Entry, options: EngineOptions) -> None:
        entry.error = Cancelled(f"the engine of {model_id} was stopped while it loaded")  # unless it gets to the end
        try:
            with entry.scope:
                async with self._room:
                    await self._make_room(entry)
                await entry.engine.start(entry.path, options)
                entry.error = None
        except HaliError as error:
            entry.error = error
            log.warning("engine.start_failed", model=model_id, error=str(error))
        finally:
            if entry.error is not None and self._entries.get(model_id) is entry:
                del self._entries[model_id]
            entry.settled.set()

    async def _make_room(self, newcomer: _Entry) -> None:
        """Stop idle engines, the longest unused first, until the limits hold; Overloaded if the others are all busy."""
        while self._crowded(newcomer):
            others = [(name, entry) for name, entry in self._entries.items() if entry is not newcomer and entry.idle]
            if not others:
                raise Overloaded(
                    f"{len(self._entries) - 1} models are busy and there is no room for another",
                    hint="try again when a reply has ended, or raise the engine limits",
                    details={"retry_after_s": RETRY_AFTER_S},
                )
            await self._end(*min(others, key=lambda item: item[1].used))

    def _crowded(self, newcomer: _Entry) -> bool:
        others = [entry for entry in self._entries.values() if entry is not newcomer]
        if len(others) >= self._limits.max_engines:
            return True
        if self._limits.memory_bytes is None or not others:
            return False  # alone a model may try: the kernel knows better than we what fits
        held = sum(entry.engine.stats().rss_bytes or 0 for entry in others)
        return held + _size(newcomer.path) > self._limits.memory_bytes

    # --- stopping

    async def _end(self, model_id: str, entry: _Entry, drain: bool = False) -> None:
        entry.stopping = True
        entry.scope.cancel()
        await entry.settled.wait()
        await entry.engine.stop(drain=drain)
        if self._entries.get(model_id) is entry:
            del self._entries[model_id]

    async def _retire_idle(self) -> None:
        """Stop engines that nobody used for `keep_alive_s`, and forget crashed ones."""
        keep = self._limits.keep_alive_s
        while True:
            await anyio.sleep(1.0 if keep is None else min(1.0, max(keep / 4, 0.02)))
            for model_id, entry in [*self._entries.items()]:
                old = keep is not None and entry.idle and time.monotonic() - entry.used >= keep
                if old or (entry.idle and not entry.usable and not entry.stopping):
                    await self._end(model_id, entry)


def _status(model_id: str, entry: _Entry) -> EngineStatus:
    loading = not entry.settled.is_set()
    return EngineStatus(
        model_id=model_id,
        path=str(entry.path),
        state="stopping" if entry.stopping else "loading" if loading else "ready",
        progress=entry.engine.progress,
        active=entry.active,
        idle_s=time.monotonic() - entry.used if entry.idle else None,
        info=entry.engine.info,
        stats=entry.engine.stats(),
    )


def _size(path: Path) -> int:
    try:
        return sum(part.stat().st_size for part in parts_beside(path))
    except OSError:
        return 0  # starting it will say what is wrong
