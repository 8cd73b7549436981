"""Engines on demand: one process a model, started once for all who ask, stopped when others need the room.

Room is counted by the estimate of what a model takes. For a newcomer the one goes that was not used for longest: at once if it is
idle, else when its replies are made; who asks for that one meanwhile waits until it is its turn to come back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
import msgspec

from hali.engine.entry import EngineStatus, Entry
from hali.engine.fitting import Fitted, fitted
from hali.engine.options import EngineOptions
from hali.engine.process import RESTART_S, EngineProcess, shown
from hali.model.errors import Cancelled, EngineFailed, HaliError, NotFound, NotRunning, Overloaded
from hali.model.generation import Answer, EngineInfo, GenerateRequest, GenerationEvent, Query
from hali.runtime.activity import Activity
from hali.runtime.log import get_logger
from hali.runtime.trace import stage

log = get_logger(__name__)

LOOK_S = 1.0  # for engines that crashed
RETRY_AFTER_S = 10  # told to clients when every engine is busy: about one reply


class PoolLimits(msgspec.Struct, frozen=True):
    """How much the pool may hold. None = no limit."""

    max_engines: int = 2  # a second model while the first answers; each holds its weights in memory
    memory_bytes: int | None = None  # of all engines together, as estimated
    keep_alive_s: float | None = 600.0  # an engine nobody used for so long is stopped; reloading takes seconds
    turn_s: float = 120.0  # a newcomer waits so long for busy engines to make their replies: a long reply on a slow CPU


class EnginePool:
    """`async with EnginePool(options) as pool:`; on exit every engine is stopped and no process is left.

    `launch` makes the process object and `fit` chooses options for a room, so that tests can do without llama.cpp.
    """

    def __init__(
        self,
        options: EngineOptions | None = None,
        limits: PoolLimits | None = None,
        *,
        launch: Callable[[str], EngineProcess] = EngineProcess,
        fit: Callable[[Path, EngineOptions, int | None], Awaitable[Fitted]] = fitted,
        equip: Callable[[Path, EngineOptions], EngineOptions] = lambda _, options: options,  # with files for this model
        activity: Activity | None = None,
    ) -> None:
        self._activity = activity or Activity()
        self._options, self._limits = options or EngineOptions(), limits or PoolLimits()
        self._launch, self._fit, self._equip = launch, fit, equip
        self._entries: dict[str, Entry] = {}  # who answers requests for a model
        self._held: dict[Entry, None] = {}  # who takes memory, in the order of the start; also one that is leaving
        self._rest = anyio.Event()  # something came to rest: look who is over
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
        with anyio.CancelScope(shield=True):
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

    def keep(self, model_id: str, seconds: float | None) -> None:
        """How long the engine stays without requests: 0 = it goes when its last reply is made, None = for ever.

        Until the next call; an engine that is started anew begins with the pool's own time. NotFound if none runs.
        """
        self._known(model_id).keep_s = seconds
        self._rest.set()

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
        """All engines that run, in the order of their start, then those that wait for room."""
        return [entry.status() for entry in self._all() if entry.shown]

    def _all(self) -> tuple[Entry, ...]:
        return (*(self._held | dict.fromkeys(self._entries.values())),)

    def _known(self, model_id: str) -> Entry:
        entry = self._entries.get(model_id)
        if entry is None or not entry.shown:
            raise NotFound(f"no engine runs for {shown(model_id)}")
        return entry

    async def stop(self, model_id: str, *, drain: bool = False) -> None:
        """Stop one engine, also one that loads; NotFound if there is none."""
        await self._end(self._known(model_id), drain=drain)

    async def aclose(self) -> None:
        """Stop every engine; the pool can be used again."""
        async with anyio.create_task_group() as group:
            for entry in self._all():
                group.start_soon(self._end, entry)

    # --- starting

    async def _ready(self, model_id: str, path: Path, options: EngineOptions | None) -> Entry:
        """The entry of a loaded engine; all who ask while it loads wait for the same start."""
        if self._tasks is None:
            raise NotRunning("the engine pool is not open")
        entry = self._entries.get(model_id)
        if entry is None or not entry.usable:
            keep_s = self._limits.keep_alive_s
            entry = Entry(model_id, path, self._launch(model_id), lambda: self._rest.set(), keep_s)
            self._entries[model_id] = entry
            # In the pool's own task: who asked first may give up while others still wait.
            chosen = options or self._equip(path, self._options)
            self._tasks.start_soon(self._start, entry, chosen, name=f"engine {model_id}")
        with entry.in_use(), stage("load"):
            await entry.settled.wait()  # EngineOptions.start_timeout_s bounds it
        if entry.error is not None:
            raise entry.error
        return entry

    async def _start(self, entry: Entry, options: EngineOptions) -> None:
        # Unless it gets to the end.
        entry.error = Cancelled(
            "the model was stopped while it was loaded",
            hint="the next request starts it again",
            code="engine_stopped",
            retryable=True,
            details={"retry_after_s": RESTART_S},
        )
        try:
            with entry.scope:
                async with self._room:
                    options = await self._make_room(entry, options)
                await entry.engine.start(entry.path, options)
                entry.error = None
                self._tell_loaded(entry)
        except HaliError as error:
            entry.error = error
            log.warning("engine.start_failed", model=entry.model_id, error=str(error))
        except Exception as bug:
            # No process or socket to be had, or a bug: it costs this start, not the pool and its daemon.
            entry.error = EngineFailed(f"the engine of {entry.name} could not be started: {bug}")
            log.error("engine.start_broken", model=entry.model_id, exc=bug)
        finally:
            if entry.error is not None:
                self._forget(entry)
            entry.settled.set()
            self._rest.set()

    async def _make_room(self, newcomer: Entry, options: EngineOptions) -> EngineOptions:
        """Let others go until the limits hold; the options with which the newcomer has its room then.

        Alone it may try with the smallest context: the kernel knows better than we what fits. Overloaded if the others stay busy.
        """
        while True:
            others = [entry for entry in self._held if entry is not newcomer]
            held = sum(entry.reserved or 0 for entry in others)
            room = None if self._limits.memory_bytes is None else self._limits.memory_bytes - held
            fit = await self._fit(newcomer.path, options, room)
            if not others or (fit.whole and len(others) < self._limits.max_engines):
                break
            await self._someone_goes(others)
        if not fit.whole:
            log.warning("engine.smaller", model=newcomer.model_id, n_ctx=fit.options.n_ctx, bytes=fit.bytes, room=room)
        newcomer.reserved = fit.bytes
        self._held[newcomer] = None
        return fit.options

    async def _someone_goes(self, others: Sequence[Entry]) -> None:
        """The one that was not used for longest, an idle one first."""
        chosen = min(others, key=lambda entry: (not entry.idle, entry.used))
        chosen.leaving = True
        with anyio.move_on_after(self._limits.turn_s):
            while not chosen.idle:
                await (chosen.rested if chosen.settled.is_set() else chosen.settled).wait()
        if not chosen.idle:  # it still goes when it is
            raise Overloaded(
                f"{len(others)} models are busy and there is no room for another",
                hint="try again when a reply has ended, or raise engine.memory_gb and engine.max_loaded",
                details={"retry_after_s": RETRY_AFTER_S},
            )
        await self._end(chosen)

    # --- stopping

    async def _end(self, entry: Entry, drain: bool = False) -> None:
        """Has its own deadline. Who asked for it may hang up: half an end would hold the memory, and answer nobody."""
        with anyio.CancelScope(shield=True):
            entry.stopping = True
            entry.scope.cancel()
            await entry.settled.wait()
            died = not entry.engine.alive
            await entry.engine.stop(drain=drain)
            self._tell_gone(entry, died=died)
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self._held.pop(entry, None)
        if self._entries.get(entry.model_id) is entry:
            del self._entries[entry.model_id]

    def _tell_loaded(self, entry: Entry) -> None:
        entry.loaded = True
        name, taken = entry.name, entry.engine.stats().rss_bytes
        self._activity.tell("engine.loaded", f"{name} is in memory", model=name, memory_bytes=taken)
        self._activity.changed("engines")

    def _tell_gone(self, entry: Entry, *, died: bool) -> None:
        """Once of each that was loaded, whoever ends it."""
        if not entry.loaded:
            return
        entry.loaded, name = False, entry.name
        if died:
            self._activity.tell("engine.died", f"The engine of {name} ended by itself", model=name)
        else:
            self._activity.tell("engine.unloaded", f"{name} left memory", model=name)
        self._activity.changed("engines")

    async def _retire_idle(self) -> None:
        """Stop engines whose time is up, and forget crashed ones."""
        while True:
            for entry in self._all():
                if entry.over:
                    await self._end(entry)
            waiting = [entry for entry in self._all() if not entry.stopping]
            times = [left for entry in waiting if (left := entry.expires_in_s) is not None]
            with anyio.move_on_after(min([LOOK_S, *times])):
                await self._rest.wait()
            self._rest = anyio.Event()
