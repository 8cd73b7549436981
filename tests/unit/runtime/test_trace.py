"""Traces: what tasks inherit, and when one is over."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from hali.runtime.trace import Trace, stage, traced, tracing


async def test_a_task_that_is_begun_within_is_measured_by_the_same_trace_and_others_are_not() -> None:
    seen: list[object] = []
    first: Trace[int] = Trace()
    second: Trace[int] = Trace()

    async def task() -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(traced())
        with stage("queue"):
            pass

    async with anyio.create_task_group() as group:
        with tracing(first):
            group.start_soon(task)
            with tracing(second):
                group.start_soon(task)
            assert traced() is first
        group.start_soon(task)
    assert seen == [first, second, None]
    assert first.seconds.keys() == second.seconds.keys() == {"queue"}


def test_the_same_stage_twice_takes_the_sum_also_when_it_fails() -> None:
    trace: Trace[int] = Trace()
    with tracing(trace):
        for _ in range(2):
            try:
                with stage("load"):
                    raise ValueError
            except ValueError:
                trace.seconds["load"] += 1.0
    assert trace.seconds["load"] >= 2.0


def test_it_is_over_when_no_engine_computes_for_it_any_more_and_once() -> None:
    ends: list[int | None] = []
    idle: Trace[int] = Trace()
    idle.when_over(lambda: ends.append(idle.used))
    assert ends == [None] and not idle.reached
    trace: Trace[int] = Trace()
    trace.engine_began()
    trace.engine_ended(None)  # it crashed, and another one is asked
    trace.engine_began()
    trace.when_over(lambda: ends.append(trace.used))
    assert ends == [None] and trace.reached
    trace.engine_ended(7)
    trace.engine_began()
    trace.engine_ended(None)
    assert ends == [None, 7] and trace.used == 7
