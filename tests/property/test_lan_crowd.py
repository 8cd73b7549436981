"""The bounds of the index hold, and the settled stay, whatever strangers do."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hali.transfer.lan_crowd import SETTLE_AFTER, SILENT, Crowd, Held, Limits, Node

NEW = Limits(nodes=4, models=10, nodes_per_address=2, models_per_address=5)
OLD = Limits(nodes=3, models=9, nodes_per_address=2, models_per_address=6)
NAMES, ADDRESSES, MODELS = st.integers(1, 12), st.integers(0, 3), st.integers(0, 7)
HONEST = b"honest"


class Flood(RuleBasedStateMachine):
    """One honest node that is settled and speaks in time; strangers of any name from any address, also its own."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd, self.now = Crowd(NEW, OLD), 0.0

    def hear(self, name: bytes, address: str) -> Node:
        node = self.crowd.find(name)
        if node is None:
            node = Node(b"", 0, 2, address, self.now, self.now)
            self.crowd.add(name, node)
        self.crowd.heard(name, self.now)
        return node

    def tell(self, node: Node, number: int) -> None:
        self.crowd.put(node, bytes([number]), Held("m", b"", b"", b"", 1, True, 0, self.now))

    @initialize()
    def settle(self) -> None:
        self.tell(self.hear(HONEST, "0"), 1)
        self.now = SETTLE_AFTER
        self.hear(HONEST, "0")

    @rule(name=NAMES, address=ADDRESSES, models=st.lists(MODELS, max_size=8))
    def stranger(self, name: int, address: int, models: list[int]) -> None:
        node = self.hear(bytes([name]), str(address))
        for number in models:
            self.tell(node, number)

    @rule(name=NAMES, address=ADDRESSES, models=st.lists(MODELS, max_size=8))
    def patient_stranger(self, name: int, address: int, models: list[int]) -> None:
        self.stranger(name, address, models)
        self.time_passes(SETTLE_AFTER)
        self.hear(bytes([name]), str(address))

    @rule(name=NAMES, number=MODELS)
    def take_back(self, name: int, number: int) -> None:
        if node := self.crowd.find(bytes([name])):
            self.crowd.drop(node, bytes([number]))

    @rule(name=NAMES)
    def restart(self, name: int) -> None:
        if node := self.crowd.find(bytes([name])):
            self.crowd.replace(
                bytes([name]), Node(b"2", 1, 2, node.address, node.since, self.now, settled=node.settled)
            )

    @rule(seconds=st.floats(0.0, SILENT - 1))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.hear(HONEST, "0")

    @invariant()
    def the_honest_node_keeps_its_place_and_its_model(self) -> None:
        node = self.crowd.find(HONEST)
        assert node is None or self.now < SETTLE_AFTER or (node.settled and b"\x01" in node.models)
        assert node is not None or self.now < SETTLE_AFTER

    @invariant()
    def both_rooms_are_within_their_limits_and_count_right(self) -> None:
        for room in (self.crowd._newcomers, self.crowd._settled):
            nodes, limits = list(room.nodes.values()), room.limits
            by_address = {n.address: [m for m in nodes if m.address == n.address] for n in nodes}
            assert len(nodes) <= limits.nodes
            assert room.models == sum(len(n.models) for n in nodes) <= limits.models
            assert room.nodes_of == {a: len(members) for a, members in by_address.items()}
            assert all(count <= limits.nodes_per_address for count in room.nodes_of.values())
            counted = {a: sum(len(n.models) for n in members) for a, members in by_address.items()}
            assert room.models_of == {a: count for a, count in counted.items() if count}
            assert all(count <= limits.models_per_address for count in counted.values())


TestFlood = Flood.TestCase
TestFlood.settings = settings(derandomize=True, deadline=None, max_examples=100, stateful_step_count=40)
