"""The supervisor: order, readiness, restarts with a new object, budgets, essential services, orderly stop."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import CycleError

import anyio
import anyio.abc
import pytest

from hali.model.errors import PortInUse
from hali.runtime.supervisor import EssentialServiceFailed, Restart, Spec, Supervisor, start_order
from tests.waiting import until

FAST = Restart(budget=3, window_s=60, first_s=0.001, max_s=0.002)


class Recorder:
    """A service that notes when it starts and stops; `trouble` may raise at the n-th run."""

    def __init__(self, name: str, log: list[str], trouble: Callable[[int], None] = lambda run: None) -> None:
        self.name, self.log, self.trouble, self.runs = name, log, trouble, 0

    def factory(self) -> Recorder:
        self.runs += 1
        return self

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        self.log.append(f"+{self.name}")
        self.trouble(self.runs)
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append(f"-{self.name}")


def spec(service: Recorder, *requires: str, essential: bool = False) -> Spec:
    return Spec(service.name, service.factory, requires=requires, essential=essential, restart=FAST)


async def test_services_start_after_what_they_require_and_stop_in_reverse() -> None:
    log: list[str] = []
    a, b, c = (Recorder(name, log) for name in "abc")
    supervisor = Supervisor([spec(c, "b"), spec(b, "a"), spec(a)])
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: supervisor.run(task_status=task_status))
        group.cancel_scope.cancel()
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert [status.state for status in supervisor.statuses()] == ["stopped"] * 3


async def test_a_failed_service_comes_back_as_a_new_object() -> None:
    log: list[str] = []

    def once(run: int) -> None:
        if run == 1:
            raise OSError("first try")

    service = Recorder("a", log, once)
    supervisor = Supervisor([spec(service)])
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: supervisor.run(task_status=task_status))
        await until(lambda: supervisor.statuses()[0].state == "ready")
        group.cancel_scope.cancel()
    assert service.runs == 2
    assert supervisor.statuses()[0].restarts == 1


def always(run: int) -> None:
    raise OSError("never works")


async def test_a_service_that_keeps_failing_is_given_up_and_the_others_go_on() -> None:
    log: list[str] = []
    broken, fine = Recorder("broken", log, always), Recorder("fine", log)
    supervisor = Supervisor([spec(broken), spec(fine)])
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: supervisor.run(task_status=task_status))
        await until(lambda: supervisor.statuses()[0].state == "failed")
        assert supervisor.statuses()[1].state == "ready"
        group.cancel_scope.cancel()
    assert broken.runs == FAST.budget
    assert supervisor.statuses()[0].error == "never works"


async def test_an_essential_service_that_keeps_failing_ends_the_supervisor_and_stops_the_rest() -> None:
    log: list[str] = []
    fine, broken = Recorder("fine", log), Recorder("broken", log, always)
    supervisor = Supervisor([spec(fine), spec(broken, essential=True)])
    with pytest.raises(EssentialServiceFailed, match="broken"), anyio.fail_after(5):
        await supervisor.run()
    assert log[-1] == "-fine"


async def test_a_port_that_is_taken_is_not_tried_again() -> None:
    def taken(run: int) -> None:
        raise PortInUse("port 1 is taken", chosen=True)

    service = Recorder("a", [], taken)
    supervisor = Supervisor([spec(service, essential=True)])
    with pytest.raises(EssentialServiceFailed, match="port 1 is taken"), anyio.fail_after(5):
        await supervisor.run()
    assert service.runs == 1


async def test_a_start_that_an_essential_service_spoils_is_never_reported_as_done() -> None:
    class StopsSlowly:
        async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    for _ in range(10):  # others run meanwhile: whoever believed that all was well would go on
                        await anyio.lowlevel.checkpoint()

    def taken(run: int) -> None:
        raise PortInUse("port 1 is taken", chosen=True)

    supervisor = Supervisor([Spec("slow", StopsSlowly), spec(Recorder("a", [], taken), essential=True)])
    begun = []

    async def begin() -> None:
        async with anyio.create_task_group() as group:
            await group.start(lambda task_status: supervisor.run(task_status=task_status))
            begun.append(True)

    with pytest.raises(ExceptionGroup) as caught:
        await begin()
    assert caught.group_contains(EssentialServiceFailed, match="port 1 is taken") and not begun


async def test_a_service_that_never_gets_ready_fails_at_its_start_limit() -> None:
    class Slow:
        async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            await anyio.sleep_forever()

    slow = Spec("slow", Slow, start_timeout_s=0.01, restart=Restart(budget=1, first_s=0.001))
    supervisor = Supervisor([slow])
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: supervisor.run(task_status=task_status))
        assert supervisor.statuses()[0].state == "failed"
        assert "not ready" in str(supervisor.statuses()[0].error)
        group.cancel_scope.cancel()


async def test_cancelling_during_start_up_stops_what_was_started() -> None:
    log: list[str] = []
    first = Recorder("first", log)

    class Hangs:
        async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            await anyio.sleep_forever()

    supervisor = Supervisor([spec(first), Spec("hangs", Hangs, requires=("first",))])
    async with anyio.create_task_group() as group:
        group.start_soon(supervisor.run)
        await until(lambda: supervisor.statuses()[1].state == "starting")
        group.cancel_scope.cancel()
    assert log == ["+first", "-first"]


def test_unknown_and_circular_requirements_are_refused() -> None:
    service = Recorder("a", [])
    with pytest.raises(ValueError, match="unknown services: b"):
        start_order([spec(service, "b")])
    with pytest.raises(CycleError):
        start_order([spec(service, "b"), spec(Recorder("b", []), "a")])
