"""The supervisor over random graphs of services that fail in random ways: order, budgets, back-off, what is told. In virtual time."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

import anyio
import anyio.abc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.model.errors import ConfigError, ExitCode, Failed
from hali.runtime.activity import Activity
from hali.runtime.restarts import JITTER, Failures
from hali.runtime.service_events import tell_services
from hali.runtime.supervisor import EssentialServiceFailed, Restart, Spec, Status, Supervisor
from tests import virtual_time

LIMIT = Restart()
START_S = 30.0
HOUR = 3600.0

Act = tuple[Literal["serve", "break", "hang", "refuse"], float]
# One life each: serves for so long and fails, fails after so long while it starts, never gets ready, cannot work as configured.
lives = st.one_of(
    st.tuples(st.just("serve"), st.floats(0.0, 100.0)),
    st.tuples(st.just("break"), st.floats(0.0, 20.0)),
    st.tuples(st.just("hang"), st.just(START_S)),
    st.tuples(st.just("refuse"), st.just(0.0)),
)


@pytest.fixture(autouse=True, scope="module")
def no_log() -> Iterator[None]:
    """Thousands of tracebacks, which nobody reads, would take most of the time."""
    logger = logging.getLogger("hali.runtime.supervisor")
    logger.disabled = True
    yield
    logger.disabled = False


class Plan(NamedTuple):
    requires: list[int]
    essential: bool
    lives: list[Act]  # after these it serves for ever


plans = st.lists(
    st.builds(Plan, st.lists(st.integers(0, 6), max_size=3), st.booleans(), st.lists(lives, max_size=9)),
    min_size=1,
    max_size=7,
)


class World:
    """Services by number (each requires smaller ones), and what happened to them: (time, what, service)."""

    def __init__(self, plans: list[Plan]) -> None:
        self.plans, self.happened = plans, list[tuple[float, str, int]]()
        self.built = [0] * len(plans)
        self.activity = Activity()
        self.activity.events._history = deque()  # all of them, not the last hundred
        self.error: BaseException | None = None
        self.supervisor: Supervisor

    def spec(self, number: int) -> Spec:
        requires = {str(n % number) for n in self.plans[number].requires} if number else set()
        return Spec(
            str(number),
            lambda: Actor(self, number),
            tuple(sorted(requires)),
            self.plans[number].essential,
            start_timeout_s=START_S,
            restart=LIMIT,
        )

    def told(self, before: Status, now: Status) -> None:
        tell_services(self.activity, before, now)
        self.note(now.state, int(now.name))

    def note(self, what: str, number: int) -> None:
        self.happened.append((anyio.current_time(), what, number))

    async def play(self) -> None:
        self.supervisor = Supervisor([self.spec(number) for number in range(len(self.plans))], self.told)
        with anyio.move_on_after(HOUR):
            try:
                await self.supervisor.run()
            except EssentialServiceFailed as error:
                self.error = error

    def of(self, number: int, *what: str) -> list[tuple[float, str]]:
        return [(at, name) for at, name, who in self.happened if who == number and name in what]


class Actor:
    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        acts = world.plans[number].lives
        self.act: Act = acts[world.built[number]] if world.built[number] < len(acts) else ("serve", HOUR * 2)
        world.built[number] += 1
        world.note("built", number)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        kind, seconds = self.act
        self.world.note("in", self.number)
        try:
            if kind == "refuse":
                raise ConfigError("as configured it cannot work")
            if kind != "serve":
                await anyio.sleep(seconds + (kind == "hang"))
                raise OSError("broken before it was ready")
            task_status.started()
            await anyio.sleep(seconds)
            raise OSError("broken\nin two lines")
        finally:
            self.world.note("out", self.number)


def services_start_after_what_they_require_are_stopped_in_reverse_and_nobody_runs_on(world: World) -> None:
    plans = world.plans
    first = [next(iter(world.of(n, "built")), None) for n in range(len(plans))]
    for number in range(len(plans)):
        for required in map(int, world.spec(number).requires):
            settled = world.of(required, "ready", "failed", *(() if plans[required].essential else ("backoff",)))
            if first[number] is not None:
                assert settled and settled[0][0] <= first[number][0]  # type: ignore[index]
        assert len(world.of(number, "in")) == len(world.of(number, "out"))
    ended = [number for _, what, number in world.happened if what == "stopped"]
    begun = [number for number in map(int, (s.name for s in world.supervisor.statuses())) if number in ended]
    assert ended == begun[::-1]


def a_failed_service_waits_its_back_off_and_is_given_up_exactly_when_its_budget_is_spent(world: World) -> None:
    plans = world.plans
    for number in range(len(plans)):
        life = world.of(number, "built", "ready", "backoff", "failed")
        failures: list[float] = []
        in_a_row = 0
        for (at, what), (then, after) in itertools.pairwise([*life, (HOUR, "end")]):
            if what == "ready":
                in_a_row = 0
            if what not in ("backoff", "failed"):
                continue
            failures, in_a_row = [t for t in failures if at - t <= LIMIT.window_s] + [at], in_a_row + 1
            spent = max(len(failures), in_a_row) >= LIMIT.budget
            refused = plans[number].lives[world.built[number] - 1][0] == "refuse" if what == "failed" else False
            assert (spent or refused) if what == "failed" else not spent
            if after == "built":
                step = min(LIMIT.max_s, LIMIT.first_s * 2 ** (max(len(failures), in_a_row) - 1))
                assert step * (1 - JITTER) - 1e-3 <= then - at <= step * (1 + JITTER) + 1e-3


def what_cannot_work_as_configured_is_given_up_at_once_unless_it_has_worked_before(world: World) -> None:
    plans = world.plans
    for number, plan in enumerate(plans):
        kinds = [kind for kind, _ in plan.lives[: world.built[number]]]
        if "refuse" in kinds and "serve" not in kinds[: kinds.index("refuse")]:
            assert world.built[number] == kinds.index("refuse") + 1
            assert world.of(number, "failed") or world.error is not None


def only_an_essential_service_that_is_given_up_ends_the_rest_and_the_error_says_whether_to_start_again(
    world: World,
) -> None:
    plans = world.plans
    lost = [number for number in range(len(plans)) if plans[number].essential and world.of(number, "failed")]
    assert (world.error is not None) == bool(lost)
    if isinstance(world.error, EssentialServiceFailed):
        (number,) = lost
        last = plans[number].lives[world.built[number] - 1][0]
        assert world.error.exit_code is (ExitCode.CONFIG if last == "refuse" else ExitCode.FAILED)
        assert str(number) in world.error.message and "\n" not in world.error.message
        assert world.happened[-1][0] == world.of(number, "failed")[0][0]  # in the same moment
    others = [s for s in world.supervisor.statuses() if not (s.state == "failed" or s.name in map(str, lost))]
    assert {s.state for s in others} <= {"stopped", "waiting"}


def each_failure_each_return_and_each_end_is_told_once(world: World) -> None:
    plans = world.plans
    told = [(event.kind, str(event.fields["service"])) for event in world.activity.events._history]
    for number in range(len(plans)):
        restored = len(world.of(number, "ready")) - first_try(world, number)
        assert told.count(("service.failed", str(number))) == len(world.of(number, "backoff"))
        assert told.count(("service.given_up", str(number))) == len(world.of(number, "failed"))
        assert told.count(("service.restored", str(number))) == restored


def first_try(world: World, number: int) -> bool:
    """Whether its first life got ready: nothing is restored then."""
    life = world.of(number, "built", "ready")
    return len(life) > 1 and life[1][1] == "ready"


@given(plans)
def test_whatever_fails_the_supervisor_keeps_its_promises(plans: list[Plan]) -> None:
    world = World(plans)
    virtual_time.run(world.play)
    services_start_after_what_they_require_are_stopped_in_reverse_and_nobody_runs_on(world)
    a_failed_service_waits_its_back_off_and_is_given_up_exactly_when_its_budget_is_spent(world)
    what_cannot_work_as_configured_is_given_up_at_once_unless_it_has_worked_before(world)
    only_an_essential_service_that_is_given_up_ends_the_rest_and_the_error_says_whether_to_start_again(world)
    each_failure_each_return_and_each_end_is_told_once(world)


@given(st.lists(st.one_of(st.just("ready"), st.floats(0.0, 500.0)), max_size=40))
def test_a_back_off_is_never_longer_than_its_limit_nor_shorter_than_its_first_step(script: list[float | str]) -> None:
    failures, now = Failures(LIMIT), 0.0
    for each in script:
        if each == "ready":
            failures.was_ready()
            continue
        now += float(each)
        wait = failures.after(now)
        if wait is None:
            return
        assert LIMIT.first_s * (1 - JITTER) <= wait <= LIMIT.max_s * (1 + JITTER)


def test_a_service_that_fails_once_a_day_is_back_as_soon_on_the_hundredth_day() -> None:
    failures = Failures(LIMIT, lambda low, high: 1.0)
    for day in range(100):
        assert failures.after(86_400.0 * day) == LIMIT.first_s
        failures.was_ready()


def test_failures_that_take_long_are_counted_too() -> None:
    failures = Failures(LIMIT, lambda low, high: 1.0)
    assert [failures.after(100.0 * n) for n in range(5)] == [0.5, 1.0, 2.0, 4.0, None]


def test_a_failure_without_words_is_told_by_its_kind() -> None:
    class Mute(Exception): ...

    async def play() -> list[str | None]:
        class Silent:
            async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
                raise Mute

        class Returns:
            async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
                task_status.started()

        class Two:
            async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
                raise ExceptionGroup("two of them", [Mute(), Failed("what we know of it")])

        supervisor = Supervisor([Spec(kind.__name__, kind) for kind in (Silent, Returns, Two)])
        with anyio.move_on_after(HOUR):
            await supervisor.run()
        return [status.error for status in supervisor.statuses()]

    assert virtual_time.run(play) == ["Mute", "it returned although nobody stopped it", "what we know of it"]
