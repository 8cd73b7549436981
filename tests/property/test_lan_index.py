"""The index of neighbours under any order of packets."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hali.transfer.lan_inbox import Inbox, Us
from hali.transfer.lan_index import LanIndex
from hali.transfer.lan_view import MODEL_TTL
from hali.wire.lan import Kind
from tests.fakes.lan_node import LINK, WALL, FakeNode, model

NODES = 4


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 14), max_size=60))
def test_in_whatever_order_packets_come_accepted_sequences_only_grow(order: list[int]) -> None:
    node, index = FakeNode(), LanIndex()
    datagrams = [node.datagram(models=(model(number),)) for number in range(15)]
    inbox, accepted, now = Inbox(index, Us(b""), None), [], 0.0
    for number in order:
        now += 1.0
        before = inbox.accepted["announce"]
        inbox.receive(datagrams[number], node.address, 1, now=now, wall=WALL)
        if inbox.accepted["announce"] > before:
            accepted.append(number)
    assert accepted == sorted(set(accepted))
    assert inbox.drops.total() + inbox.ignored.total() + len(accepted) == len(order)


class Neighbourhood(RuleBasedStateMachine):
    """Some nodes that announce, answer, restart, leave and repeat themselves; the model is what each last said."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.round = 0.0, 0
        self.index = LanIndex()
        self.inbox = Inbox(self.index, Us(b""), None)
        self.inbox.reach = LINK
        self.nodes = [FakeNode(seed + 1, f"10.0.0.{seed + 1}") for seed in range(NODES)]
        self.session = [0] * NODES
        self.truth: list[dict[int, float]] = [{} for _ in range(NODES)]
        self.sent: list[tuple[int, bytes]] = []

    def say(self, who: int, **fields: Any) -> None:
        self.now += 1.0
        number = self.session[who]
        fields |= {"session": number.to_bytes(16, "big"), "epoch": int(WALL * 1000) + number}
        fields["time"] = int(WALL + self.now)
        datagram = self.nodes[who].datagram(**fields)
        self.sent.append((who, datagram))
        self.deliver(who, datagram)

    def deliver(self, who: int, datagram: bytes) -> None:
        self.inbox.receive(datagram, self.nodes[who].address, 1, now=self.now, wall=WALL + self.now)

    @rule(who=st.integers(0, NODES - 1), held=st.sets(st.integers(0, 6), max_size=5))
    def announce_all(self, who: int, held: set[int]) -> None:
        self.round += 1
        self.say(who, models=tuple(map(model, sorted(held))), round=self.round, parts=1)
        self.truth[who] = dict.fromkeys(held, self.now)

    @rule(who=st.integers(0, NODES - 1), number=st.integers(0, 6))
    def answer(self, who: int, number: int) -> None:
        self.say(who, models=(model(number),))
        self.truth[who][number] = self.now

    @rule(who=st.integers(0, NODES - 1), number=st.integers(0, 6))
    def take_back(self, who: int, number: int) -> None:
        self.say(who, models=(msgspec.structs.replace(model(number), flags=0),))
        self.truth[who].pop(number, None)

    @rule(who=st.integers(0, NODES - 1))
    def leave(self, who: int) -> None:
        self.say(who, kind=Kind.GOODBYE)
        self.truth[who] = {}

    @rule(who=st.integers(0, NODES - 1))
    def restart(self, who: int) -> None:
        self.session[who] += 1
        self.say(who, kind=Kind.QUERY)
        self.truth[who] = {}

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        if self.sent:
            self.now += 1.0
            self.deliver(*data.draw(st.sampled_from(self.sent)))

    @rule(seconds=st.floats(1.0, 400.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.index.expire(self.now)

    @invariant()
    def the_index_shows_what_each_node_last_said(self) -> None:
        expected = {
            (1000 + number, self.nodes[who].address)
            for who in range(NODES)
            for number, when in self.truth[who].items()
            if self.now - when <= MODEL_TTL
        }
        shown = {(e.size, host) for e in self.index.entries(self.now) for host, _ in e.peers}
        assert shown == expected

    @invariant()
    def the_count_of_models_is_right(self) -> None:
        assert self.index.models == sum(len(n.models) for n in self.index._crowd)


TestNeighbourhood = Neighbourhood.TestCase
TestNeighbourhood.settings = settings(derandomize=True, deadline=None, max_examples=80, stateful_step_count=50)
