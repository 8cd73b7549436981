"""What other nodes say they have: bounded, replay-proof, and free of I/O (times are handed in).

**Replay.** A packet of the known session must have a higher sequence than the last one. Another session of a known
node must have a later epoch, the packets of an unknown node (and of a later session) a time close to ours. Clocks
may be wrong, so neither is the last word: a packet that fails these tests is not believed, but its node is asked to
show that it is alive (a query with a fresh nonce), and a packet that echoes a nonce of ours is believed whatever the
clocks say. So a node that restarts with its clock set back is heard again within a second, and a recording is not.

**Addresses.** Only the source address of a verified packet is used, and only if the signed message lists it: a
recording sent from another host points nowhere.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from hali.model.ids import InfoHashes
from hali.transfer.lan_match import fits
from hali.wire.lan import Flag, Kind, Packet, Want
from hali.wire.lan_v1 import PacketV1

MODEL_TTL = 120.0  # seconds; four missed announcements
NODE_MEMORY = 900.0  # how long sequence numbers are remembered; longer than FRESH, so that nothing old fits through
FRESH = 300.0  # difference of two wall clocks that are set at all
MAX_NODES = 1024  # a large LAN; a record without models takes about 1 KiB
MAX_NODES_PER_ADDRESS = 32  # daemons on one machine; a liar with one address gets no further
MAX_MODELS_PER_NODE = 4096
MAX_MODELS = 16_384  # about 10 MB in all
MAX_ENDPOINTS = 8
RECENT = 32  # datagrams remembered per node: a burst that arrives a second time over another interface

Endpoint = tuple[str, int]


class Verdict(enum.Enum):
    """What the sequence rules say of a packet; the values are names of drop counters."""

    ACCEPT = "accepted"
    DUPLICATE = "duplicate"  # the same packet over another interface; not an attack
    REPLAYED = "replayed"
    UNPROVEN = "unproven"  # unknown and not fresh: the node is asked for a sign of life


class LanEntry(msgspec.Struct, frozen=True):
    """One model on the LAN and who has it."""

    model_id: str
    sha256_prefix: str  # 32 hex digits; empty when only a v1 node told of it
    infohashes: InfoHashes
    size: int | None
    peers: tuple[Endpoint, ...]  # BitTorrent; freshest node first
    age_s: float  # since it was last heard of
    complete: bool  # at least one node has all of it
    nodes: int  # how many have it; each may have several endpoints
    protocol: int  # 2, or 1 for announcements of the existing hali, which are not signed


class _Held(msgspec.Struct):
    model_id: str
    sha256: bytes
    v2: bytes
    v1: bytes
    size: int | None
    complete: bool
    round: int
    seen: float


class _Node(msgspec.Struct):
    session: bytes
    epoch: int
    protocol: int
    address: str  # first source address; what MAX_NODES_PER_ADDRESS counts
    sequence: int = -1
    recent: dict[int, None] = msgspec.field(default_factory=dict)  # hashes of the last accepted datagrams
    seen: float = 0.0
    port: int = 0
    hosts: dict[str, None] = msgspec.field(default_factory=dict)
    models: dict[bytes, _Held] = msgspec.field(default_factory=dict)
    round: int = -1
    parts: set[int] = msgspec.field(default_factory=set)


class LanIndex:
    """All nodes and their models. `changed()` is called when `entries` may answer differently."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._nodes: OrderedDict[bytes, _Node] = OrderedDict()
        self._per_address: Counter[str] = Counter()
        self._models = 0
        self._changed = changed

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def models(self) -> int:
        """Models of all nodes, counted per node."""
        return self._models

    def judge(self, node: bytes, packet: Packet, digest: int, *, wall: float, echoed: bool) -> Verdict:
        """What the sequence rules say; changes nothing, so it may be asked before the signature is checked."""
        known = self._nodes.get(node)
        if known is not None and packet.session == known.session:
            if packet.sequence > known.sequence:
                return Verdict.ACCEPT
            return Verdict.DUPLICATE if digest in known.recent else Verdict.REPLAYED
        if echoed:
            return Verdict.ACCEPT
        fresh = abs(wall - packet.time) <= FRESH
        if known is None or known.protocol == 1:
            return Verdict.ACCEPT if fresh else Verdict.UNPROVEN
        return Verdict.ACCEPT if fresh and packet.epoch > known.epoch else Verdict.REPLAYED

    def session_of(self, node: bytes) -> bytes | None:
        """The session that is believed for a node; None if the node is not known."""
        known = self._nodes.get(node)
        return None if known is None else known.session

    def add_duplicate(self, node: bytes, source: str) -> None:
        """Notes one more address of a node: one of its accepted datagrams came from there as well."""
        known = self._nodes.get(node)
        if known is not None and source not in known.hosts and len(known.hosts) < MAX_ENDPOINTS:
            known.hosts[source] = None
            self._changed()

    def apply(self, node: bytes, packet: Packet, source: str, digest: int, now: float) -> bool:
        """Takes over a verified, accepted packet. False if `source` already stands for too many nodes."""
        known = self._node(node, packet.session, packet.epoch, 2, source)
        if known is None:
            return False
        known.sequence, known.seen, known.recent[digest] = packet.sequence, now, None
        if len(known.recent) > RECENT:
            del known.recent[next(iter(known.recent))]
        if len(known.hosts) < MAX_ENDPOINTS:
            known.hosts[source] = None
        if packet.kind == Kind.GOODBYE:
            self._forget_models(known, lambda held: True)
        elif packet.kind == Kind.ANNOUNCE:
            known.port = packet.port
            self._take_models(known, packet, now)
        self._trim()
        self._changed()
        return True

    def apply_v1(self, packet: PacketV1, source: str, now: float) -> bool:
        """Takes over an announcement of the existing hali: all models of the node; its address is the source."""
        known = self._node(b"v1:" + packet.nid.encode(), b"", 0, 1, source)
        if known is None:
            return False
        known.seen, known.port, known.hosts = now, packet.p, {source: None}
        self._forget_models(known, lambda held: True)
        for model in packet.models:
            v1, v2 = bytes.fromhex(model.ih), bytes.fromhex(model.ih2)
            self._put(known, v1, _Held(model.id, b"", v2, v1, None, True, 0, now))
        self._trim()
        self._changed()
        return True

    def holders_since(self, sha256: bytes, since: float) -> int:
        """How many nodes have named this model from `since` on."""
        return sum(1 for n in self._nodes.values() if (h := n.models.get(sha256)) is not None and h.seen >= since)

    def entries(self, now: float, wants: Sequence[Want] = ()) -> list[LanEntry]:
        """Models heard of lately that fit any of `wants` (all without wants), by model id."""
        groups: dict[tuple[bytes, bytes, bytes], list[tuple[_Node, _Held]]] = {}
        for node in self._nodes.values():
            for held in node.models.values():
                if now - held.seen <= MODEL_TTL and (not wants or any(_fits(w, held) for w in wants)):
                    groups.setdefault((held.sha256, held.v2, held.v1), []).append((node, held))
        found = [_entry(members, now) for members in groups.values()]
        return sorted(found, key=lambda e: (e.model_id, e.sha256_prefix, e.infohashes.best))

    def expire(self, now: float) -> None:
        """Drops models and nodes that have been silent for too long."""
        before = self._models
        for name, node in list(self._nodes.items()):
            self._forget_models(node, lambda held: now - held.seen > MODEL_TTL)
            if now - node.seen > NODE_MEMORY:
                self._drop(name)
        if self._models != before:
            self._changed()

    def _node(self, name: bytes, session: bytes, epoch: int, protocol: int, source: str) -> _Node | None:
        known = self._nodes.get(name)
        if known is None:
            if self._per_address[source] >= MAX_NODES_PER_ADDRESS:
                return None
            known = self._nodes[name] = _Node(session, epoch, protocol, source)
            self._per_address[source] += 1
        elif known.session != session:
            self._forget_models(known, lambda held: True)
            self._nodes[name] = known = _Node(session, epoch, protocol, known.address)
        self._nodes.move_to_end(name)
        return known

    def _take_models(self, node: _Node, packet: Packet, now: float) -> None:
        if packet.parts and packet.round > node.round:
            node.round, node.parts = packet.round, set()
        current = max(node.round, 0)
        for m in packet.models:
            complete = bool(m.flags & Flag.COMPLETE)
            self._put(node, m.sha256, _Held(m.id, m.sha256, m.v2, m.v1, m.size, complete, current, now))
        if packet.parts and packet.round == node.round:
            node.parts.add(packet.part)
            if len(node.parts) == packet.parts:  # the whole announcement came: what it does not name is gone
                self._forget_models(node, lambda held: held.round < current)

    def _put(self, node: _Node, key: bytes, held: _Held) -> None:
        if key not in node.models:
            if len(node.models) >= MAX_MODELS_PER_NODE:
                return
            self._models += 1
        node.models[key] = held

    def _forget_models(self, node: _Node, gone: Callable[[_Held], bool]) -> None:
        for key in [key for key, held in node.models.items() if gone(held)]:
            del node.models[key]
            self._models -= 1

    def _trim(self) -> None:
        while len(self._nodes) > MAX_NODES or (self._models > MAX_MODELS and len(self._nodes) > 1):
            self._drop(next(iter(self._nodes)))

    def _drop(self, name: bytes) -> None:
        node = self._nodes.pop(name)
        self._models -= len(node.models)
        self._per_address[node.address] -= 1
        if not self._per_address[node.address]:
            del self._per_address[node.address]


def _fits(want: Want, held: _Held) -> bool:
    return fits(want, held.model_id, held.sha256, held.v2, held.v1)


def _entry(members: Iterable[tuple[_Node, _Held]], now: float) -> LanEntry:
    ordered = sorted(members, key=lambda pair: pair[1].seen, reverse=True)
    newest = ordered[0][1]
    peers = dict.fromkeys(peer for node, _ in ordered for peer in _endpoints(node))
    return LanEntry(
        model_id=newest.model_id,
        sha256_prefix=newest.sha256.hex(),
        infohashes=InfoHashes(v1=newest.v1.hex() or None, v2=newest.v2.hex() or None),
        size=newest.size,
        peers=tuple(peers),
        age_s=max(0.0, now - newest.seen),
        complete=any(held.complete for _, held in ordered),
        nodes=len(ordered),
        protocol=max(node.protocol for node, _ in ordered),
    )


def _endpoints(node: _Node) -> list[Endpoint]:
    """Where a node's BitTorrent port can be reached from here, the best way first."""
    if not node.port:
        return []
    ranked = sorted(node.hosts, key=_rank)
    usable = [h for h in ranked if _rank(h) < 3] or ranked  # link-local ones only if there is nothing else
    return [(host, node.port) for host in usable]


def _rank(host: str) -> int:
    ip = ipaddress.ip_address(host.partition("%")[0])
    if ip.is_loopback:
        return 0  # the same machine
    if ip.version == 4:
        return 1
    return 3 if ip.is_link_local else 2
