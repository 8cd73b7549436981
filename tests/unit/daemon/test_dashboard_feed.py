"""What the dashboard's parts cost and when they are made: nothing while nobody looks, one that did not change is not told again."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import anyio
import msgspec
import pytest

from hali.api.dashboard_base import Sample
from hali.daemon import dashboard
from hali.daemon.dashboard import DashboardFeed
from hali.daemon.dashboard_parts import Builder
from hali.daemon.node import Node
from hali.model.errors import Overloaded
from hali.runtime.activity import Activity
from hali.runtime.channels import Watch
from tests.waiting import until

pytestmark = pytest.mark.anyio
PATIENCE_S = 10.0


class Shown:
    """Two parts: one that is built each time, one that waits to be told of."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"stats": 1, "services": 1}
        self.built = {"stats": 0, "services": 0}
        self.fails = False

    def builders(self) -> dict[str, Builder]:
        return {"stats": Builder(self._builder("stats")), "services": Builder(self._builder("services"), "services")}

    def _builder(self, name: str) -> Any:
        async def build(node: Any, handlers: Any) -> Any:
            self.built[name] += 1
            if self.fails and name == "stats":
                raise Overloaded("a service is being restarted")
            return self.values[name]

        return build


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    made = Shown()
    monkeypatch.setattr(dashboard, "PARTS", made.builders())
    monkeypatch.setattr(dashboard, "EVERY_S", 0.005)
    monkeypatch.setattr(dashboard, "IDLE_S", 0.005)
    monkeypatch.setattr(dashboard, "SLOW", 10**6)
    return made


@pytest.fixture
async def feed(shown: Shown) -> AsyncIterator[DashboardFeed]:
    board = SimpleNamespace(active=list)
    parts = {"activity": Activity(), "torrents": Watch(None), "lan": Watch(None), "board": board}
    made = DashboardFeed(cast(Node, SimpleNamespace(**parts)))
    made.open({"stats": cast(Any, None)})
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: made.run(task_status=task_status))
        yield made
        group.cancel_scope.cancel()


async def test_while_nobody_looks_only_the_rates_are_sampled(feed: DashboardFeed, shown: Shown) -> None:
    await until(lambda: len(feed.rates.value) > 10)
    assert shown.built == {"stats": 0, "services": 0} and feed.parts.value == {}


async def test_a_part_that_did_not_change_keeps_its_version(feed: DashboardFeed, shown: Shown) -> None:
    with feed.viewing():
        await until(lambda: shown.built["stats"] > 5)
        before = feed.parts.value["stats"]
        assert shown.built["stats"] > 5 and before.value == msgspec.Raw(b"1")
        shown.values["stats"] = 2
        await until(lambda: feed.parts.value["stats"].version > before.version)
        assert feed.parts.value["stats"].value == msgspec.Raw(b"2")


async def test_what_changes_by_events_only_is_built_when_it_is_told_of(feed: DashboardFeed, shown: Shown) -> None:
    with feed.viewing():
        await until(lambda: shown.built["stats"] > 10)
        assert shown.built["services"] == 1
        shown.values["services"] = 2
        feed.activity.changed("models")
        seen = shown.built["stats"]
        await until(lambda: shown.built["stats"] > seen + 3)
        assert shown.built["services"] == 1
        feed.activity.changed("services")
        await until(lambda: feed.parts.value["services"].value == msgspec.Raw(b"2"))


async def test_who_comes_later_is_shown_nothing_old(feed: DashboardFeed, shown: Shown) -> None:
    with feed.viewing():
        with feed.viewing():
            await until(lambda: bool(feed.parts.value))
        assert feed.parts.value
    assert feed.parts.value == {}
    shown.values["services"] = 3
    with feed.viewing():
        await until(lambda: bool(feed.parts.value))
        assert feed.parts.value["services"].value == msgspec.Raw(b"3")


async def test_a_part_that_cannot_be_had_keeps_its_old_value_and_harms_no_other(
    feed: DashboardFeed, shown: Shown
) -> None:
    with feed.viewing():
        await until(lambda: bool(feed.parts.value))
        shown.fails, shown.values["services"] = True, 2
        feed.activity.changed("services")
        await until(lambda: feed.parts.value["services"].value == msgspec.Raw(b"2"))
        assert feed.parts.value["stats"].value == msgspec.Raw(b"1")


async def test_rates_are_kept_for_their_minutes(
    feed: DashboardFeed, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "SHOWN_S", 0.05)
    await until(lambda: len(feed.rates.value) > 2 and feed.rates.value[0].ts > feed.rates.value[-1].ts - 0.05)
    first = feed.rates.value[0].ts
    await until(lambda: feed.rates.value[0].ts > first)
    assert all(sample.down == sample.up == 0 for sample in feed.rates.value)


@pytest.mark.parametrize(("times", "left"), [([1, 2, 3], [1, 2, 3]), ([1, 2, 400], [400]), ([500, 501, 20], [20])])
def test_the_curve_has_the_last_five_minutes_and_nothing_of_a_clock_that_was_set_back(
    times: list[float], left: list[float]
) -> None:
    samples = deque(Sample(ts, 0.0, 0.0) for ts in times)
    dashboard._keep(samples, 300.0)
    assert [sample.ts for sample in samples] == left
