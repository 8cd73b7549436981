"""The three channels: what happens when one is full, slow or late."""

from __future__ import annotations

import anyio
import pytest

from hali.model.errors import Overloaded
from hali.runtime.channels import Bus, Lagged, Receiver, Sender, Watch, mailbox


def ints(capacity: int) -> tuple[Sender[int], Receiver[int]]:
    return mailbox("test", capacity)


async def test_a_full_mailbox_refuses_an_offer_and_counts_it() -> None:
    sender, receiver = ints(1)
    sender.offer(1)
    with pytest.raises(Overloaded, match="mailbox test is full"):
        sender.offer(2)
    assert (sender.dropped, sender.depth, await receiver.receive()) == (1, 1, 1)
    sender.close()
    receiver.close()


async def test_a_full_mailbox_slows_its_sender() -> None:
    sender, receiver = ints(1)
    await sender.send(1)
    with anyio.move_on_after(0.01) as waiting:
        await sender.send(2)
    assert waiting.cancelled_caught
    sender.close()
    assert [item async for item in receiver] == [1]
    receiver.close()


async def test_a_slow_bus_reader_is_told_how_much_it_missed_and_the_publisher_never_waits() -> None:
    bus: Bus[int] = Bus(capacity=2)
    with bus.subscribe() as reader:
        for n in range(5):
            bus.publish(n)
        lagged = await anext(reader)
        assert isinstance(lagged, Lagged)
        assert lagged.missed == 3
        assert [await anext(reader), await anext(reader)] == [3, 4]
    assert bus.readers == 0


async def test_a_bus_replays_its_history_to_whoever_asks() -> None:
    bus: Bus[int] = Bus(capacity=10, history=2)
    for n in range(5):
        bus.publish(n)
    with bus.subscribe(replay=True) as late, bus.subscribe() as new:
        bus.publish(5)
        assert [await anext(late) for _ in range(3)] == [3, 4, 5]
        assert await anext(new) == 5


async def test_a_watch_shows_the_latest_value_only() -> None:
    watch = Watch(0)
    seen: list[int] = []

    async def read() -> None:
        seen.append(await watch.changed())
        seen.append(await watch.until(lambda v: v > 2))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        watch.set(1)
        watch.set(2)
        await anyio.wait_all_tasks_blocked()
        watch.set(3)
    assert seen == [2, 3]


def test_a_bus_tells_how_far_its_slowest_reader_is_behind_and_what_readers_missed() -> None:
    bus: Bus[int] = Bus(capacity=2)
    assert (bus.depth, bus.dropped) == (0, 0)
    with bus.subscribe() as slow:
        bus.publish(1)
        with bus.subscribe():
            bus.publish(2)
            assert (bus.depth, bus.dropped) == (2, 0)
            bus.publish(3)
            assert (bus.depth, bus.dropped, slow.waiting) == (2, 1, 2)
    assert (bus.depth, bus.dropped) == (0, 1)
