"""Of pauses, settings and neighbours only changes are told."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from hali.daemon import neighbour_telling
from hali.daemon.neighbour_telling import tell_neighbours
from hali.daemon.node_telling import NodeTeller
from hali.runtime.activity import REPLAYED, Activity
from hali.runtime.channels import Watch
from hali.transfer.lan import LanAnnouncer
from hali.transfer.regulator import Allowance
from hali.transfer.throttle import Caps

pytestmark = pytest.mark.anyio
OPEN, PAUSED = Allowance(Caps()), Allowance(Caps(), paused=True)


async def told(activity: Activity) -> list[tuple[str, dict[str, Any]]]:
    """Kinds and fields of all events so far."""
    with activity.events.subscribe(replay=True) as events:
        found = [await anext(events) for _ in range(min(activity.seq, REPLAYED))]
    return [(event.kind, event.fields) for event in found]  # type: ignore[union-attr]


async def test_a_pause_is_told_when_it_begins_and_ends_and_other_caps_are_none() -> None:
    activity = Activity()
    teller = NodeTeller(activity)
    limited = Allowance(Caps(upload_mbps=5))
    timed = Allowance(Caps(), paused=True, until=1_700_000_000.0)
    for allowance in (OPEN, limited, PAUSED, PAUSED, OPEN, timed, OPEN):
        teller.allowed(allowance)
    events = await told(activity)
    assert [kind.partition(".")[2] for kind, _ in events] == ["paused", "resumed", "paused", "resumed"]
    assert events[0][1] == {"until": None} and events[2][1]["until"][:10] in ("2023-11-14", "2023-11-15")


async def test_a_node_that_begins_paused_tells_no_change() -> None:
    activity = Activity()
    NodeTeller(activity).allowed(PAUSED)
    assert activity.seq == 0


async def test_settings_are_told_when_they_change_and_not_when_they_are_only_read() -> None:
    activity = Activity()
    teller = NodeTeller(activity)
    teller.reloaded([], [])
    teller.reloaded(["a", "b"], [])
    teller.reloaded([], ["c"])
    teller.reloaded([], ["c"])
    teller.reloaded([], [])  # `c` was taken back
    assert [fields for _, fields in await told(activity)] == [
        {"applied": "a, b", "restart": ""},
        {"applied": "", "restart": "c"},
        {"applied": "", "restart": ""},
    ]


class Neighbours:
    """A LAN service whose neighbours the test chooses."""

    def __init__(self, *nodes: str) -> None:
        self.changes: Watch[int] = Watch(0)
        self._nodes = frozenset(nodes)

    def nodes(self) -> frozenset[str]:
        return self._nodes

    def become(self, *nodes: str) -> None:
        self._nodes = frozenset(nodes)
        self.changes.set(self.changes.value + 1)


async def test_who_comes_and_who_leaves_is_told_also_over_a_restart_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbour_telling, "LOOK_S", 0.0)
    activity, lan = Activity(), cast(Watch[LanAnnouncer | None], Watch(None))

    async def seen(count: int) -> None:
        with anyio.fail_after(10):
            while activity.seq < count:
                await anyio.sleep(0.001)

    async with anyio.create_task_group() as group:
        group.start_soon(tell_neighbours, lan, activity)
        first = Neighbours("aa")
        lan.set(cast(LanAnnouncer, first))
        await seen(1)
        await anyio.wait_all_tasks_blocked()
        first.become("aa", "bb")
        await seen(2)
        lan.set(None)
        await anyio.wait_all_tasks_blocked()
        lan.set(cast(LanAnnouncer, Neighbours("bb")))
        await seen(3)
        group.cancel_scope.cancel()
    events = [(kind, fields["node"]) for kind, fields in await told(activity)]
    assert events == [("node.appeared", "aa"), ("node.appeared", "bb"), ("node.left", "aa")]
