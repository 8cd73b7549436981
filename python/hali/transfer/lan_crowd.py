"""The nodes that are remembered, within bounds that no flood of new names can use to push out old acquaintances.

Two rooms. A node begins as a *newcomer*; newcomers give way to each other, those of a crowded address first, then the
longest unheard. One that still speaks 20 s later is *settled* if there is a place, and keeps it as long as it speaks:
a settled node never gives way to load. Each address has its own limits in both rooms, so one host fills neither.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

import msgspec

SETTLE_AFTER = 20.0  # seconds; below the 24 s of the shortest interval, so the second announcement settles a node
SILENT = 45.0  # a settled node that missed a turn (36 s at most) gives way; longer than a recording is fresh


class Limits(msgspec.Struct, frozen=True):
    """Of one room."""

    nodes: int
    models: int
    nodes_per_address: int
    models_per_address: int


# A large LAN has some hundred nodes; all full take about 15 MB. An address may stand for several daemons or a router.
NEWCOMERS = Limits(nodes=256, models=4096, nodes_per_address=16, models_per_address=2048)
SETTLED = Limits(nodes=768, models=12_288, nodes_per_address=16, models_per_address=4096)
MAX_NODES = NEWCOMERS.nodes + SETTLED.nodes
MAX_MODELS = NEWCOMERS.models + SETTLED.models


class Held(msgspec.Struct):
    """One model of one node."""

    model_id: str
    sha256: bytes
    v2: bytes
    v1: bytes
    size: int | None
    complete: bool
    round: int
    seen: float


class Node(msgspec.Struct):
    """What is known of one node."""

    session: bytes
    epoch: int
    protocol: int
    address: str  # the first source; what the limits per address count
    since: float
    seen: float
    settled: bool = False
    sequence: int = -1
    recent: dict[int, int] = msgspec.field(default_factory=dict)  # sequence → digest of the last accepted datagrams
    port: int = 0
    hosts: dict[str, None] = msgspec.field(default_factory=dict)
    models: dict[bytes, Held] = msgspec.field(default_factory=dict)
    round: int = -1
    parts: set[int] = msgspec.field(default_factory=set)


class _Room:
    """Nodes, the longest unheard first, with what each address takes up."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.nodes: OrderedDict[bytes, Node] = OrderedDict()
        self.nodes_of: Counter[str] = Counter()
        self.models_of: Counter[str] = Counter()
        self.models = 0

    def add(self, name: bytes, node: Node) -> None:
        self.nodes[name] = node
        self.nodes_of[node.address] += 1
        self.count_models(node, len(node.models))

    def remove(self, name: bytes) -> Node:
        node = self.nodes.pop(name)
        _lower(self.nodes_of, node.address, 1)
        self.count_models(node, -len(node.models))
        return node

    def count_models(self, node: Node, more: int) -> None:
        self.models += more
        if more > 0:
            self.models_of[node.address] += more
        elif more:
            _lower(self.models_of, node.address, -more)

    def takes(self, node: Node) -> bool:
        """Is there a place for one more node with these models?"""
        limits, count = self.limits, len(node.models)
        room = len(self.nodes) < limits.nodes and self.models + count <= limits.models
        share = self.models_of[node.address] + count <= limits.models_per_address
        return room and share and self.nodes_of[node.address] < limits.nodes_per_address

    def longest_unheard(self, fits: Callable[[Node], bool]) -> bytes | None:
        return next((name for name, node in self.nodes.items() if fits(node)), None)


class Crowd:
    """All nodes by name. `evicted` counts those that gave way, `refused` the models that found no place."""

    def __init__(self, newcomers: Limits = NEWCOMERS, settled: Limits = SETTLED) -> None:
        self._newcomers, self._settled = _Room(newcomers), _Room(settled)
        self.evicted = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._newcomers.nodes) + len(self._settled.nodes)

    def __iter__(self) -> Iterator[Node]:
        yield from self._newcomers.nodes.values()
        yield from self._settled.nodes.values()

    def named(self) -> Iterator[tuple[bytes, Node]]:
        """All nodes with their names."""
        yield from self._newcomers.nodes.items()
        yield from self._settled.nodes.items()

    @property
    def models(self) -> int:
        """Models of all nodes, counted per node."""
        return self._newcomers.models + self._settled.models

    def find(self, name: bytes) -> Node | None:
        """The node of that name."""
        return self._newcomers.nodes.get(name) or self._settled.nodes.get(name)

    def add(self, name: bytes, node: Node) -> None:
        """A newcomer; others give way if they must."""
        room = self._newcomers
        if room.nodes_of[node.address] >= room.limits.nodes_per_address:
            self._evict(room, lambda other: other.address == node.address)
        if len(room.nodes) >= room.limits.nodes:
            share = room.limits.nodes / len(room.nodes_of)
            self._evict(room, lambda other: room.nodes_of[other.address] >= share)
        room.add(name, node)

    def replace(self, name: bytes, node: Node) -> None:
        """`node` in the place of the one that has this name."""
        room = self._room(node)
        room.remove(name)
        room.add(name, node)

    def heard(self, name: bytes, now: float) -> None:
        """The node of that name has just spoken; settles it when its time has come and there is a place."""
        node = self.find(name)
        assert node is not None
        node.seen = now
        self._room(node).nodes.move_to_end(name)
        # Nodes of protocol 1 do not sign, so that one could keep a place by its name alone.
        if not node.settled and node.protocol > 1 and now - node.since >= SETTLE_AFTER:
            self._settle(name, node, now)

    def put(self, node: Node, key: bytes, held: Held) -> None:
        """Notes a model of `node`, unless its address has its share or there is no place; other newcomers make one."""
        room = self._room(node)
        if key not in node.models:
            if not self._make_place(room, node):
                self.refused += 1
                return
            room.count_models(node, 1)
        node.models[key] = held

    def forget(self, node: Node, gone: Callable[[Held], bool]) -> None:
        """Drops the models of `node` for which `gone` is true."""
        for key in [key for key, held in node.models.items() if gone(held)]:
            self.drop(node, key)

    def drop(self, node: Node, key: bytes) -> None:
        """Drops one model of `node`, if it has it."""
        if node.models.pop(key, None) is not None:
            self._room(node).count_models(node, -1)

    def drop_silent(self, before: float) -> None:
        """Forgets the nodes that were last heard before that time."""
        for room in (self._newcomers, self._settled):
            for name in [name for name, node in room.nodes.items() if node.seen < before]:
                room.remove(name)

    def _room(self, node: Node) -> _Room:
        return self._settled if node.settled else self._newcomers

    def _settle(self, name: bytes, node: Node, now: float) -> None:
        room = self._settled
        if not room.takes(node):
            self._evict(room, lambda other: now - other.seen > SILENT)
        if room.takes(node):
            self._newcomers.remove(name)
            node.settled = True
            room.add(name, node)

    def _make_place(self, room: _Room, node: Node) -> bool:
        if room.models_of[node.address] >= room.limits.models_per_address:
            return False
        if room.models >= room.limits.models and room is self._newcomers:
            share = room.limits.models / len(room.models_of)
            self._evict(room, lambda other: other is not node and room.models_of[other.address] >= share)
        return room.models < room.limits.models

    def _evict(self, room: _Room, fits: Callable[[Node], bool]) -> None:
        name = room.longest_unheard(fits)
        if name is not None:
            room.remove(name)
            self.evicted += 1


def _lower(counts: Counter[str], address: str, by: int) -> None:
    counts[address] -= by
    if not counts[address]:
        del counts[address]
