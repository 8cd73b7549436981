"""What other nodes say they have: bounded, replay-proof, and free of I/O (times are handed in).

**Replay.** A packet of the known session must have a higher sequence than the last one. Another session of a known
node must have a later epoch, the packets of an unknown node (and of a later session) a time close to ours. Clocks
may be wrong, so neither is the last word: a packet that fails these tests is not believed, but its node is asked to
show that it is alive (a query with a fresh nonce), and a packet that echoes a nonce of ours is believed whatever the
clocks say. So a node that restarts with its clock set back is heard again within a second, and a recording is not.

**The bound.** Sequences live in memory. After our own restart (or when a node had to give way to others) a recording
is taken for the first word of a stranger, but only if it is at most `FRESH` old, comes from an address that it lists
itself, and the node has not spoken yet; it shows then for `MODEL_TTL` at most, and ends with the node's next word.

**Addresses.** Only the source address of a verified packet is used, and only if the signed message lists it: a
recording sent from another host points nowhere.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence

from hali.transfer.lan_crowd import Crowd, Held, Node
from hali.transfer.lan_view import MODEL_TTL, LanEntry, entries
from hali.wire.lan import Flag, Kind, Packet, Want
from hali.wire.lan_v1 import PacketV1

FRESH = 30.0  # seconds between two clocks that are set at all; those that are not prove themselves by a nonce
NODE_MEMORY = 900.0  # how long sequence numbers are remembered; longer than FRESH, so that nothing old fits through
MAX_ENDPOINTS = 8
RECENT = 16  # accepted datagrams remembered per node: a burst that arrives a second time over another interface
DUPLICATE_WITHIN = 2.0  # seconds after a node's last word; copies over another interface come within milliseconds


class Verdict(enum.Enum):
    """What the sequence rules say of a packet; the values are names of drop counters."""

    ACCEPT = "accepted"
    DUPLICATE = "duplicate"  # the same packet over another interface; not an attack
    REORDERED = "reordered"  # never seen, but its node has said more since
    REPLAYED = "replayed"
    UNPROVEN = "unproven"  # unknown and not fresh: the node is asked for a sign of life


class LanIndex:
    """All nodes and their models. `changed()` is called when `entries` may answer differently."""

    def __init__(self, changed: Callable[[], None] = lambda: None, crowd: Crowd | None = None) -> None:
        self._crowd = crowd if crowd is not None else Crowd()
        self._changed = changed

    def __len__(self) -> int:
        return len(self._crowd)

    def offering(self) -> frozenset[str]:
        """The nodes that have models, by node id (hex; of the older protocol its own name)."""
        return frozenset(_text(name) for name, node in self._crowd.named() if node.models)

    @property
    def models(self) -> int:
        """Models of all nodes, counted per node."""
        return self._crowd.models

    @property
    def evicted(self) -> int:
        """Nodes that had to give way to others."""
        return self._crowd.evicted

    @property
    def refused(self) -> int:
        """Models that found no place."""
        return self._crowd.refused

    def judge(self, node: bytes, packet: Packet, digest: int, *, now: float, wall: float, echoed: bool) -> Verdict:
        """What the sequence rules say; changes nothing, so it may be asked before the signature is checked."""
        known = self._crowd.find(node)
        if known is not None and packet.session == known.session:
            return _judge_sequence(known, packet.sequence, digest, now)
        if echoed:
            return Verdict.ACCEPT
        fresh = abs(wall - packet.time) <= FRESH
        if known is None:
            return Verdict.ACCEPT if fresh else Verdict.UNPROVEN
        return Verdict.ACCEPT if fresh and packet.epoch > known.epoch else Verdict.REPLAYED

    def session_of(self, node: bytes) -> bytes | None:
        """The session that is believed for a node; None if the node is not known."""
        known = self._crowd.find(node)
        return None if known is None else known.session

    def add_duplicate(self, node: bytes, source: str) -> None:
        """Notes one more address of a node: one of its accepted datagrams came from there as well."""
        known = self._crowd.find(node)
        if known is not None and source not in known.hosts and len(known.hosts) < MAX_ENDPOINTS:
            known.hosts[source] = None
            self._changed()

    def apply(self, node: bytes, packet: Packet, source: str, digest: int, now: float) -> None:
        """Takes over a verified, accepted packet."""
        known = self._node(node, packet.session, packet.epoch, 2, source, now)
        known.sequence, known.recent[packet.sequence] = packet.sequence, digest
        if len(known.recent) > RECENT:
            del known.recent[next(iter(known.recent))]
        if len(known.hosts) < MAX_ENDPOINTS:
            known.hosts[source] = None
        if packet.kind == Kind.GOODBYE:
            self._crowd.forget(known, lambda held: True)
        elif packet.kind == Kind.ANNOUNCE:
            known.port = packet.port
            self._take_models(known, packet, now)
        self._changed()

    def apply_v1(self, packet: PacketV1, source: str, now: float) -> Verdict:
        """Takes over an announcement of the existing hali: all models of the node; its address is the source.

        Its only sequence is its time, in seconds, and one announcement comes over every interface: the first counts.
        """
        name = b"v1:" + packet.nid.encode()
        before = self._crowd.find(name)
        if before is not None and packet.ts <= before.sequence:
            return Verdict.DUPLICATE if packet.ts == before.sequence else Verdict.REPLAYED
        known = self._node(name, b"", 0, 1, source, now)
        known.sequence, known.port, known.hosts = packet.ts, packet.p, {source: None}
        self._crowd.forget(known, lambda held: True)
        for model in packet.models:
            v1, v2 = bytes.fromhex(model.ih), bytes.fromhex(model.ih2)
            self._crowd.put(known, v1, Held(model.id, b"", v2, v1, None, True, 0, now))
        self._changed()
        return Verdict.ACCEPT

    def holders_since(self, sha256: bytes, since: float) -> int:
        """How many nodes have named this model from `since` on."""
        return sum(1 for n in self._crowd if (h := n.models.get(sha256)) is not None and h.seen >= since)

    def entries(self, now: float, wants: Sequence[Want] = ()) -> list[LanEntry]:
        """Models heard of lately that fit any of `wants` (all without wants), by model id."""
        return entries(self._crowd, now, wants)

    def expire(self, now: float) -> None:
        """Drops models and nodes that have been silent for too long."""
        before = self.models
        for node in self._crowd:
            self._crowd.forget(node, lambda held: now - held.seen > MODEL_TTL)
        self._crowd.drop_silent(now - NODE_MEMORY)
        if self.models != before:
            self._changed()

    def _node(self, name: bytes, session: bytes, epoch: int, protocol: int, source: str, now: float) -> Node:
        known = self._crowd.find(name)
        if known is None:
            known = Node(session, epoch, protocol, source, now, now)
            self._crowd.add(name, known)
        elif known.session != session:
            known = Node(session, epoch, protocol, known.address, known.since, now, settled=known.settled)
            self._crowd.replace(name, known)
        self._crowd.heard(name, now)
        return known

    def _take_models(self, node: Node, packet: Packet, now: float) -> None:
        if packet.parts and packet.round > node.round:
            node.round, node.parts = packet.round, set()
        # What an answer names while a round is under way was said after that round began: the round does not end it.
        current = max(node.round, packet.round, 0)
        for m in packet.models:
            if m.flags & (Flag.COMPLETE | Flag.PARTIAL):
                complete = bool(m.flags & Flag.COMPLETE)
                self._crowd.put(node, m.sha256, Held(m.id, m.sha256, m.v2, m.v1, m.size, complete, current, now))
            else:
                self._crowd.drop(node, m.sha256)
        if packet.parts and packet.round == node.round:
            node.parts.add(packet.part)
            if len(node.parts) == packet.parts:  # the whole announcement came: what it does not name is gone
                self._crowd.forget(node, lambda held: held.round < node.round)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace") if name.startswith(b"v1:") else name.hex()


def _judge_sequence(known: Node, sequence: int, digest: int, now: float) -> Verdict:
    if sequence > known.sequence:
        return Verdict.ACCEPT
    before = known.recent.get(sequence)
    if before is None:
        all_remembered = len(known.recent) < RECENT or sequence > next(iter(known.recent))
        return Verdict.REORDERED if all_remembered else Verdict.REPLAYED
    same_moment = before == digest and now - known.seen <= DUPLICATE_WITHIN
    return Verdict.DUPLICATE if same_moment else Verdict.REPLAYED
