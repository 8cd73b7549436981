"""A blocked event loop is told of, with the place; a loop that works is left alone, and one that rests wakes nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from hali.runtime.log import _FIELDS
from hali.runtime.stalls import StallWatch, watched_loop

DEADLINE_S = 30.0


class Told(logging.Handler):
    """What the watch logs; may be waited for from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append((record.getMessage(), getattr(record, _FIELDS)))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@pytest.fixture
def told() -> Any:
    logger, handler = logging.getLogger("hali.runtime.stalls"), Told()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def run(work: Callable[[], Awaitable[None]], limit_s: float) -> None:
    options = {"loop_factory": partial(watched_loop, limit_s)}
    anyio.run(work, backend="asyncio", backend_options=options)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def test_a_block_is_told_once_with_the_stack_of_who_blocks_and_again_when_it_is_over(told: Told) -> None:
    def planted_block() -> None:
        wait_for(lambda: "loop.blocked" in told.names())

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        planted_block()
        await anyio.to_thread.run_sync(wait_for, lambda: "loop.unblocked" in told.names())
        planted_block_again()

    def planted_block_again() -> None:
        wait_for(lambda: told.names().count("loop.blocked") == 2)

    run(work, limit_s=0.02)
    about = [(name, fields) for name, fields in told.events if name == "loop.blocked"]
    assert "in planted_block\n" in about[0][1]["stack"]
    assert "in planted_block_again\n" in about[1][1]["stack"]
    assert about[0][1]["seconds"] >= 0.02


def test_a_loop_that_turns_is_left_alone_and_its_watch_ends_with_it(told: Told) -> None:
    async def work() -> None:
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
        assert watches()

    run(work, limit_s=DEADLINE_S)
    wait_for(lambda: not watches())
    assert told.events == []


def test_while_the_loop_rests_the_watch_sleeps_until_it_turns_again(told: Told) -> None:
    async def work() -> None:
        for _ in range(3):
            (watch,) = watches()
            # This loop waits for the thread, which waits for the watch to see that.
            await anyio.to_thread.run_sync(wait_for, lambda watch=watch: watch.asleep)
            assert not watch.asleep  # the turn that we are in has woken it

    run(work, limit_s=0.01)


def watches() -> list[StallWatch]:
    return [thread for thread in threading.enumerate() if isinstance(thread, StallWatch)]
