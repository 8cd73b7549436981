"""Ten thousand strangers: what they can do to the memory of the index, and to those it knows already."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from hali.transfer import lan_crowd
from hali.transfer.lan_crowd import MAX_MODELS, MAX_NODES, NEWCOMERS, Crowd, Limits
from hali.transfer.lan_inbox import Inbox, Us
from hali.transfer.lan_index import LanIndex
from tests.fakes.lan_node import LINK, WALL, FakeNode, model

STRANGERS = 10_000
PER_SECOND = 400.0  # below the rate at which signatures are checked: all of them are believed
BOUND = 3 * 1024 * 1024  # bytes; 256 newcomers with three models each, and the buckets, take a good 1 MiB
HONEST, HIS = "192.0.2.7", model(0, "smollm2:135m:instruct:q4_1")
UNBOUNDED = Limits(10**9, 10**9, 10**9, 10**9)


def one_host(number: int) -> str:
    return "192.0.2.66"


def an_address_each(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


@cache
def announcement(number: int, address: str) -> bytes:
    """By a key of its own, dated in the middle of the flood."""
    models = tuple(model(3 * number + n, f"m{number}:7b:instruct:q4_k_m") for n in range(1, 4))
    return FakeNode(number + 2, address).datagram(time=int(WALL) + 45, models=models)


def forged(number: int, address: str) -> bytes:
    """The same with another sequence and a signature that does not fit."""
    datagram = FakeNode(number + 2, address).datagram(time=int(WALL) + 45, sequence=9)
    return datagram[:-10] + b"forged" + datagram[-4:]


class Flooded:
    """An inbox that an honest node has introduced itself to twice, as nodes do, and then strangers."""

    def __init__(self, crowd: Crowd | None = None) -> None:
        self.index = LanIndex(crowd=crowd)
        self.inbox = Inbox(self.index, Us(b"m" * 32), None)
        self.inbox.reach = LINK
        self.now = 0.0
        self.honest = FakeNode(1, HONEST)
        self.say(self.honest, models=(HIS,))
        self.now = 30.0
        self.say(self.honest, models=(HIS,))

    def say(self, node: FakeNode, **fields: object) -> None:
        fields = {"time": int(WALL + self.now)} | fields
        self.hear(node.datagram(**fields), node.address)

    def hear(self, datagram: bytes, host: str) -> None:
        self.inbox.receive(datagram, host, 5000, now=self.now, wall=WALL + self.now)

    def flood(self, address: Callable[[int], str], count: int = STRANGERS) -> None:
        """Announcements of three models each by keys that are used once, and some with a broken signature."""
        for number in range(count):
            self.now += 1 / PER_SECOND
            self.hear(announcement(number, address(number)), address(number))
            if number % 10 == 0:
                self.hear(forged(number, address(number)), address(number))

    @property
    def honest_is_seen(self) -> bool:
        return any(
            (HONEST, 6881) in e.peers
            for e in self.index.entries(self.now)
            if e.model_id == HIS.id and e.size == HIS.size
        )


@contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """How many bytes the block has allocated and not freed."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


# One host may send 400 datagrams at once and 200 a second, so more of them change nothing.
@pytest.mark.parametrize(("address", "count"), [(one_host, 2000), (an_address_each, STRANGERS)])
def test_ten_thousand_strangers_leave_memory_bounded_and_the_honest_node_visible(
    address: Callable[[int], str], count: int
) -> None:
    for number in range(count):
        announcement(number, address(number))  # kept for all tests, so not counted as the index's
    with measured() as held:
        desk = Flooded()
        before = held()
        desk.flood(address, count)
        grown = held() - before
    assert grown < BOUND
    assert len(desk.index) <= NEWCOMERS.nodes + 1 <= MAX_NODES
    assert desk.index.models <= MAX_MODELS
    assert desk.index.evicted > 0
    assert desk.inbox.drops["signature"] > 0
    assert desk.honest_is_seen
    late = FakeNode(999_999, "192.0.2.8")  # and one that comes in the middle of it
    desk.say(late, models=(model(77, "late"),))
    assert any(e.model_id == "late" for e in desk.index.entries(desk.now))


def test_without_the_limits_the_same_flood_grows_the_memory() -> None:
    with measured() as held:
        desk = Flooded(Crowd(UNBOUNDED, UNBOUNDED))
        before = held()
        desk.flood(an_address_each, 3000)
        grown = held() - before
    assert grown > 2 * BOUND
    assert len(desk.index) == 3001


def test_without_settled_places_the_same_flood_pushes_the_honest_node_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_crowd, "SETTLE_AFTER", float("inf"))
    desk = Flooded()
    desk.flood(an_address_each, 1000)
    assert not desk.honest_is_seen


def test_strangers_who_claim_the_address_of_an_honest_node_do_not_replace_it() -> None:
    desk = Flooded()
    desk.flood(lambda number: HONEST, 300)
    assert desk.honest_is_seen
    assert len(desk.index) <= NEWCOMERS.nodes_per_address + 1
