"""One engine of the pool: who uses it, how long it stays, what it is said to take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from hali.engine.options import EngineStats
from hali.engine.process import EngineProcess, shown
from hali.model.errors import HaliError
from hali.model.generation import EngineInfo


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
    expires_in_s: float | None = None  # until it is unloaded if nobody asks; None = never, or not while it is used
    reserved_bytes: int | None = None  # the estimate it was let in with; None while it waits for room


@dataclass(eq=False)
class Entry:
    """An engine of the pool. `settled` is set when its start has succeeded or failed, `on_rest` called when its last request ends."""

    model_id: str
    path: Path
    engine: EngineProcess
    on_rest: Callable[[], None]
    keep_s: float | None  # until it is unloaded, from its last use; None = never
    settled: anyio.Event = field(default_factory=anyio.Event)
    rested: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    error: HaliError | None = None
    active: int = 0
    used: float = field(default_factory=time.monotonic)
    stopping: bool = False
    leaving: bool = False  # as soon as its replies are made: somebody else waits for its room
    reserved: int | None = None  # bytes; None until it is let in
    loaded: bool = False  # viewers were told so

    @property
    def name(self) -> str:
        """The model's."""
        return shown(self.model_id)

    @property
    def usable(self) -> bool:
        """Loading, or alive and meant to stay so."""
        going = self.stopping or self.leaving
        return not going and (not self.settled.is_set() or (self.error is None and self.engine.alive))

    @property
    def shown(self) -> bool:
        """A person would say that it is there."""
        return self.usable or self.stopping or (self.leaving and self.engine.alive)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Somebody would miss it while the block runs."""
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self.used = time.monotonic()
            if not self.active:
                self.rested.set()
                self.rested = anyio.Event()
                self.on_rest()

    @property
    def idle(self) -> bool:
        """Nobody would miss it now."""
        return self.settled.is_set() and self.active == 0

    @property
    def expires_in_s(self) -> float | None:
        """See EngineStatus."""
        return None if self.keep_s is None or not self.idle else max(0.0, self.used + self.keep_s - time.monotonic())

    @property
    def over(self) -> bool:
        """It should be stopped: its time is up, it crashed, or its room is promised."""
        return self.idle and not self.stopping and (self.expires_in_s == 0 or not self.usable)

    def status(self) -> EngineStatus:
        """As of now."""
        state: Literal["loading", "ready", "stopping"] = "ready" if self.settled.is_set() else "loading"
        return EngineStatus(
            model_id=self.model_id,
            path=str(self.path),
            state="stopping" if self.stopping or self.leaving else state,
            progress=self.engine.progress,
            active=self.active,
            idle_s=time.monotonic() - self.used if self.idle else None,
            info=self.engine.info,
            stats=self.engine.stats(),
            expires_in_s=self.expires_in_s,
            reserved_bytes=self.reserved,
        )
