"""What the IPC tells of the node's events."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec

from hali.daemon.watching import ActivityMethods
from hali.runtime.activity import REPLAYED, WAITING, Activity


async def silent(event: dict[str, Any]) -> None:
    raise AssertionError(event)


async def test_whoever_asks_once_gets_the_last_events_oldest_first() -> None:
    activity = Activity()
    for number in range(REPLAYED + 5):
        activity.tell("pull.started", f"pull {number}", what=str(number))
    found = (await ActivityMethods(activity).events({}, silent))["events"]
    assert [event["seq"] for event in found] == list(range(6, REPLAYED + 6))
    assert found[-1]["text"] == f"pull {REPLAYED + 4}" and msgspec.json.encode(found)


async def test_a_follower_gets_what_was_what_comes_and_how_much_it_missed() -> None:
    activity, told, held = Activity(), [], anyio.Event()
    activity.tell("daemon.started", "before", version="1")

    async def emit(event: dict[str, Any]) -> None:
        told.append(event)
        await held.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(ActivityMethods(activity).events, {"follow": True}, emit)
        await anyio.wait_all_tasks_blocked()
        for _ in range(WAITING + 7):  # while it reads the first
            activity.tell("transfers.resumed", "on")
        held.set()
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert told[0]["text"] == "before" and told[1] == {"missed": 7}
    assert [event["seq"] for event in told[2:]] == list(range(9, WAITING + 9))
    assert activity.events.readers == 0
