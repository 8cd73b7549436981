"""What leaves a node, and when."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from hali.transfer.lan_outbox import RESERVE, LanOptions, Outbox
from hali.transfer.lan_packets import Speaker
from tests.fakes.lan_node import FakeNode


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    made = Outbox(Speaker(FakeNode(), None), LanOptions(port=40_269, interfaces=("lo",)))
    made.refresh()
    yield made
    made.close()


async def test_a_long_announcement_leaves_room_for_answers_that_go_out_without_a_wait(outbox: Outbox) -> None:
    told: list[int] = []

    async def announce() -> None:
        for number in range(1000):
            await outbox.send(outbox._speaker.goodbye(), bulk=True)
            told.append(number)

    async with anyio.create_task_group() as group:
        group.start_soon(announce)
        with anyio.fail_after(10):
            while len(told) < 10:  # more than the burst without the reserve: it waits for its pace now
                await anyio.sleep(0.01)
        before = len(told)
        for _ in range(int(RESERVE) - 1):
            await outbox.send(outbox._speaker.goodbye())
        assert len(told) == before  # so none of them waited: nobody else had a turn
        group.cancel_scope.cancel()


async def test_a_packet_longer_than_its_limit_is_not_sent(outbox: Outbox) -> None:
    packet = outbox._speaker.goodbye()
    for to in (None, ("127.0.0.1", 9)):
        await outbox.answer(packet, to, 100)
    await outbox.send_lean(packet, 100)
    assert (outbox.sent, outbox.failed) == (0, 3)
    await outbox.send_lean(packet, 1200)
    assert outbox.sent == 1


async def no_answer(*_: object, **__: object) -> None:
    raise OSError("no name server")


async def test_names_of_peers_that_mean_other_addresses_are_a_change(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox._options = LanOptions(peers=("127.0.0.9",))
    assert await outbox.resolve_peers()
    assert not await outbox.resolve_peers()
    monkeypatch.setattr(anyio, "getaddrinfo", no_answer)
    assert not await outbox.resolve_peers()
    assert outbox.is_peer("127.0.0.9")
    assert outbox.reach.is_near("127.0.0.9")
