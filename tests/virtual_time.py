"""An event loop whose clock jumps to the next timer when nothing else is to do: hours of back-off in no time, the same each run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: the time that it would have waited has passed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        assert ready or timeout is not None, "all tasks wait for each other"
        if not ready and timeout is not None and timeout > 0:
            self.now += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-6  # a sum of waits may end just before the timer it was for

    def time(self) -> float:
        return self._jumping.now


def run(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """`anyio.run` in virtual time."""
    return anyio.run(function, *args, backend="asyncio", backend_options={"loop_factory": _VirtualLoop})
