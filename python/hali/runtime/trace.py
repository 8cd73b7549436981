"""What is measured of one generation on its way through the layers, without a parameter in each call.

Whoever wants to know makes a `Trace` and asks for the generation within `tracing`; tasks that are started for it inherit it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

U = TypeVar("U")


class Trace(Generic[U]):
    """Seconds by stage, and what the engines say was used: also of a reply that nobody waits for any more."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.used: U | None = None
        self.reached = False  # an engine began to compute
        self._engines = 0
        self._then: Callable[[], None] | None = None

    def engine_began(self) -> None:
        """An engine computes for it from now on; `engine_ended` follows, whatever happens."""
        self.reached = True
        self._engines += 1

    def engine_ended(self, used: U | None) -> None:
        """It does no longer. `used` is None where it failed or died."""
        self._engines -= 1
        self.used = used or self.used
        if self._then is not None and not self._engines:
            then, self._then = self._then, None
            then()

    def when_over(self, then: Callable[[], None]) -> None:
        """Call `then` as soon as no engine computes for it: at once, or when a cancelled engine has told what it used."""
        if self._engines:
            self._then = then
        else:
            then()


_current: ContextVar[Trace[object] | None] = ContextVar("hali_trace", default=None)


@contextmanager
def tracing(trace: Trace[U]) -> Iterator[None]:
    """What is begun within the block is measured by `trace`."""
    before = _current.get()
    _current.set(trace)  # type: ignore[arg-type]  # a context variable has no type parameter
    try:
        yield
    finally:
        _current.set(before)  # no reset by token: a generator may be closed in another context than it was begun in


def traced() -> Trace[object] | None:
    """The trace of this generation, if somebody measures it."""
    return _current.get()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The block is stage `name` of the generation."""
    trace, began = _current.get(), time.monotonic()
    try:
        yield
    finally:
        if trace is not None:
            trace.seconds[name] = trace.seconds.get(name, 0.0) + time.monotonic() - began
