"""Caps, schedule and orders of a person: what holds when, by a clock that the test moves."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import anyio
import pytest

from hali.config.schedule import Rule, Schedule
from hali.transfer.regulator import Allowance, Order, Regulator, decide
from hali.transfer.throttle import Caps

CAPS = Caps(upload_mbps=10, download_mbps=100)
WORK = ["mon-fri 08:00-18:00 down=20", "sat,sun 00:00-24:00 pause"]
ZONE = ZoneInfo("Europe/Berlin")


class World:
    """A clock, a memory, and what was applied."""

    def __init__(self, at: str) -> None:
        self.wall = datetime.fromisoformat(at).replace(tzinfo=ZONE).timestamp()
        self.monotonic = 1000.0
        self.kept: str | None = None
        self.applied: list[Allowance] = []

    def regulator(self, *schedule: str) -> Regulator:
        return Regulator(
            CAPS,
            Schedule.parse(schedule),
            kept=self.kept,
            keep=self.keep,
            apply=self.applied.append,
            wall=lambda: self.wall,
            monotonic=lambda: self.monotonic,
            zone=lambda: ZONE,
        )

    async def keep(self, text: str) -> None:
        self.kept = text

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def at(self, text: str) -> None:
        self.passes(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp() - self.wall)

    def moment(self, allowance: Allowance) -> str:
        assert allowance.until is not None
        return datetime.fromtimestamp(allowance.until, UTC).astimezone(ZONE).strftime("%a %H:%M:%S")


MONDAY = "2026-06-01"


def test_a_rule_changes_what_it_names_and_leaves_the_rest() -> None:
    assert decide(CAPS, None, None, None) == Allowance(CAPS)
    assert decide(CAPS, Rule(down=0), None, None).caps == Caps(upload_mbps=10, download_mbps=0)
    assert decide(CAPS, Rule(up=1, down=2), None, None).caps == Caps(upload_mbps=1, download_mbps=2)


def test_an_order_is_above_the_schedule_both_ways() -> None:
    paused = decide(CAPS, Rule(pause=True), 7.0, None)
    assert (paused.paused, paused.until, paused.by) == (True, 7.0, "schedule")
    assert not decide(CAPS, Rule(pause=True), 7.0, Order(False, 0.0)).paused
    assert decide(CAPS, Rule(down=1), None, Order(True, 0.0)).by == "user"


async def test_the_schedule_holds_from_the_first_moment() -> None:
    assert World(f"{MONDAY}T09:00").regulator(*WORK).now.value.caps.download_mbps == 20
    weekend = World("2026-06-06T09:00").regulator(*WORK)
    assert not weekend.gate.is_open
    assert weekend.now.value.by == "schedule"


async def test_the_service_applies_each_change_when_its_minute_has_come() -> None:
    world = World(f"{MONDAY}T07:59")
    regulator = world.regulator(*WORK)
    assert regulator._wait() == 60
    world.at(f"{MONDAY}T07:59:50")
    assert regulator._wait() == 10
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: regulator.run(task_status=task_status))
        await anyio.wait_all_tasks_blocked()
        assert world.applied == []
        world.at(f"{MONDAY}T08:00")
        regulator._kick.set()
        await anyio.wait_all_tasks_blocked()
        world.at("2026-06-06T00:00")
        regulator._kick.set()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert [(a.caps.download_mbps, a.paused) for a in world.applied] == [(20, False), (100, True)]
    assert not regulator.gate.is_open


async def test_a_pause_is_in_force_and_on_record_when_the_order_returns() -> None:
    world = World(f"{MONDAY}T20:00")
    regulator = world.regulator()
    found = await regulator.pause()
    assert (found.paused, found.until, found.by) == (True, None, "user")
    assert not regulator.gate.is_open
    assert not world.regulator().gate.is_open  # the next life
    await regulator.resume()
    assert regulator.gate.is_open
    assert world.regulator().gate.is_open


async def test_a_timed_pause_ends_by_the_monotonic_clock_whatever_the_wall_says() -> None:
    world = World(f"{MONDAY}T20:00")
    regulator = world.regulator()
    await regulator.pause(600)
    world.wall += 10_000  # somebody sets the clock
    regulator._update()
    assert not regulator.gate.is_open
    world.monotonic += 599
    regulator._update()
    assert not regulator.gate.is_open
    assert regulator._wait() == 1
    world.monotonic += 1
    regulator._update()
    assert regulator.gate.is_open


@pytest.mark.parametrize(("away", "left"), [(200, 400), (599, 1), (-5_000, 600)])
async def test_a_timed_pause_goes_on_after_a_restart_for_what_is_left_and_never_for_longer_than_it_was(
    away: float, left: float
) -> None:
    world = World(f"{MONDAY}T20:00")
    await world.regulator().pause(600)
    world.wall += away
    world.monotonic = 5.0  # another boot
    regulator = world.regulator()
    assert not regulator.gate.is_open
    world.passes(left - 0.5)
    regulator._update()
    assert not regulator.gate.is_open
    world.passes(0.5)
    regulator._update()
    assert regulator.gate.is_open


async def test_a_timed_pause_that_ended_while_no_daemon_ran_is_over() -> None:
    world = World(f"{MONDAY}T20:00")
    await world.regulator().pause(600)
    world.wall += 601
    regulator = world.regulator()
    assert regulator.gate.is_open
    assert regulator._wait() > 0


async def test_an_order_without_a_time_lasts_until_the_schedule_changes() -> None:
    world = World("2026-06-05T17:00")
    regulator = world.regulator(*WORK)
    assert world.moment(await regulator.pause()) == "Fri 18:00:00"
    world.at("2026-06-05T18:00")
    regulator._update()
    assert regulator.gate.is_open
    world.at("2026-06-06T10:00")
    regulator._update()
    assert not regulator.gate.is_open
    assert not (await regulator.resume()).paused
    assert world.regulator(*WORK).gate.is_open  # a restart does not forget it
    world.at("2026-06-07T23:59")
    regulator._update()
    assert regulator.gate.is_open
    await regulator.pause()
    world.at("2026-06-08T08:00")
    regulator._update()
    assert regulator.gate.is_open
    assert regulator.now.value.caps.download_mbps == 20


async def test_a_timed_pause_outlasts_a_change_of_the_schedule() -> None:
    world = World("2026-06-05T17:30")
    regulator = world.regulator(*WORK)
    await regulator.pause(3600)
    world.at("2026-06-05T18:29")
    regulator._update()
    assert not regulator.gate.is_open
    world.at("2026-06-05T18:30")
    regulator._update()
    assert regulator.gate.is_open


async def test_resuming_when_nothing_is_paused_orders_nothing() -> None:
    world = World(f"{MONDAY}T09:00")
    regulator = world.regulator(*WORK)
    await regulator.resume()
    assert world.kept == "null"
    assert world.applied == []


async def test_other_settings_hold_at_once_and_an_open_order_ends_with_the_new_schedule() -> None:
    world = World(f"{MONDAY}T09:00")
    regulator = world.regulator()
    await regulator.pause()
    regulator.configure(Caps(download_mbps=3), Schedule.parse(["mon 09:00-09:30 up=1"]))
    assert regulator.now.value.caps == Caps(upload_mbps=1, download_mbps=3)
    assert world.moment(regulator.now.value) == "Mon 09:30:00"
    world.at(f"{MONDAY}T09:30")
    regulator._update()
    assert regulator.gate.is_open
    assert regulator.now.value.caps == Caps(download_mbps=3)
