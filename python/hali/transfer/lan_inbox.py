"""What is done with an incoming datagram: the checks, cheap ones first, and a counter for every reason to drop it.

| counter | the datagram … |
|---|---|
| `source_rate` | is one too many from its address |
| `oversized`, `truncated`, `malformed`, `version` | is no packet |
| `mac` | has no MAC by our secret; or has one, and we have no secret |
| `address` | comes from an address that the signed message does not list |
| `network` | comes from a public address outside of our networks and `lan.peers`; or asks for a multicast from afar |
| `replayed`, `reordered` | was accepted before; or is older than one that was |
| `unproven` | is of an unknown node and not of this time |
| `total_rate` | would be one signature too many to check |
| `signature` | is not by the owner of its key |
| `same_key` | is of another node that has our key: one of the two data directories is a copy |
| `node_rate` | is one too many from its node |
| `v1` | is of version 1, which is switched off |
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections import Counter, OrderedDict

import msgspec

from hali.transfer.lan_index import LanIndex, Verdict
from hali.transfer.lan_interfaces import Reach
from hali.wire import lan_v1
from hali.wire.lan import PROBE, Kind, Malformed, Packet, Received, WantKind, decode

NODE_RATE = 10.0  # packets per second and node (sharing.md) …
NODE_BURST = 20.0  # … and at once: an announcement of some 140 models
SOURCE_RATE = 200.0  # datagrams per second and address before any signature is checked: several daemons on one machine
SOURCE_BURST = 400.0
# Signatures checked per second, of nodes we know and of others: together about 0.1 s of a core. Apart, so that a crowd of
# strangers cannot silence acquaintances.
TOTAL_RATE = 500.0
MAX_BUCKETS = 2048
NONCE_LIFE = 10.0  # seconds; answers come within 250 ms, but a paced answer of a busy node may wait
MAX_NONCES = 256
SETTLED = 5  # seconds after which no network brings back what our last session said

Source = tuple[str, int]


class Us(msgspec.Struct, frozen=True):
    """What our own packets say of themselves; `epoch` is when the session began, in milliseconds since 1970."""

    node_id: bytes
    session: bytes = b""
    epoch: int = 0


class Question(msgspec.Struct, frozen=True):
    """A verified query: what it asks, where to answer by unicast (None: multicast), with how many bytes at most."""

    packet: Packet
    reply_to: Source | None
    limit: int


class Stale(msgspec.Struct, frozen=True):
    """A properly signed packet that is too old to be believed: its node should be asked for a sign of life.

    By unicast if it came so (`reply_to`), and never with more bytes than the packet had.
    """

    node: bytes
    reply_to: Source | None
    limit: int


class Page(msgspec.Struct, frozen=True):
    """An answer to a query of ours that has more pages: from whom, and how many there are."""

    source: Source
    pages: int


class Buckets:
    """Token buckets by key, the least recently used ones forgotten."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._levels: OrderedDict[bytes | str, tuple[float, float]] = OrderedDict()

    def take(self, key: bytes | str, now: float) -> bool:
        """True if one more of this key may pass now."""
        level, since = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        allowed = level >= 1.0
        self._levels[key] = (level - 1.0 if allowed else level, now)
        if len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)
        return allowed


class Inbox:
    """Checks datagrams and feeds the index.

    `drops` counts by reason what was not believed, `accepted` by kind what was, `ignored` what is none of both: our own
    multicast, copies that came over another interface, and what a doctor on this machine sends to itself. `reach` says which
    addresses are near.
    """

    def __init__(self, index: LanIndex, us: Us, secret: bytes | None, *, v1: bool = True) -> None:
        self.drops: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.reach = Reach()
        self._index, self._us, self._secret, self._v1 = index, us, secret, v1
        self._sources = Buckets(SOURCE_RATE, SOURCE_BURST)
        self._nodes = Buckets(NODE_RATE, NODE_BURST)
        self._total = Buckets(TOTAL_RATE, TOTAL_RATE)
        self._nonces: OrderedDict[bytes, float] = OrderedDict()  # asked lately → valid until

    def new_nonce(self, now: float) -> bytes:
        """A number nobody can have signed before."""
        nonce = os.urandom(8)
        self._nonces[nonce] = now + NONCE_LIFE
        while len(self._nonces) > MAX_NONCES:
            self._nonces.popitem(last=False)
        return nonce

    def receive(
        self, datagram: bytes, host: str, port: int, *, now: float, wall: float, unicast: bool = False
    ) -> Question | Stale | Page | None:
        """Judges one datagram from `host` (IPv6 link-local with scope), sent to our own address if `unicast`.

        What comes back is for the caller to act on.
        """
        try:
            if not self._sources.take(host, now):
                raise Malformed("source_rate")
            if datagram.startswith(PROBE):
                self.ignored["probe"] += 1
                return None
            if lan_v1.looks_like_v1(datagram):
                self._receive_v1(datagram, host, now=now, wall=wall)
                return None
            received = decode(datagram, self._secret)
            if received.node_id == self._us.node_id:
                self._check_ours(received, now)
                self.ignored["own"] += 1
                return None
            return self._receive_v2(received, datagram, (host, port), now=now, wall=wall, unicast=unicast)
        except Malformed as error:
            self.drops[error.reason] += 1
            return None

    def _receive_v2(
        self, received: Received, datagram: bytes, source: Source, *, now: float, wall: float, unicast: bool
    ) -> Question | Stale | Page | None:
        packet, node, host = received.packet, received.node_id, source[0]
        reply_to, limit = source if unicast else None, len(datagram)
        digest = int.from_bytes(hashlib.blake2b(datagram, digest_size=8).digest())
        self._check_source(packet, host, unicast)
        echoed = self._echoes(packet, now)
        verdict = self._index.judge(node, packet, digest, now=now, wall=wall, echoed=echoed)
        if verdict is Verdict.DUPLICATE:
            self._index.add_duplicate(node, host)
            self.ignored["duplicate"] += 1
            return None
        if verdict is not Verdict.ACCEPT and self._index.session_of(node) == packet.session:
            raise Malformed(verdict.value)
        self._check_signature(received, now)
        if verdict is not Verdict.ACCEPT:
            self.drops[verdict.value] += 1
            # Who asks us for a sign of life gets it whatever the clocks say: else two that disagree would never meet.
            return Question(packet, reply_to, limit) if self._asks_for_me(packet) else Stale(node, reply_to, limit)
        if not self._nodes.take(node, now):  # only believed packets count: a replayer cannot use up a node's share
            raise Malformed("node_rate")
        self._index.apply(node, packet, host, digest, now)
        self.accepted[Kind(packet.kind).name.lower()] += 1
        if packet.kind == Kind.QUERY:
            return Question(packet, reply_to, limit)
        return Page(source, packet.pages) if echoed and packet.pages > 1 and packet.part == 0 else None

    def _check_source(self, packet: Packet, host: str, unicast: bool) -> None:
        if packed(host) not in packet.addresses:
            raise Malformed("address")
        if self._secret is None and not self.reach.is_near(host):
            raise Malformed("network")
        if packet.kind == Kind.QUERY and not unicast and not self.reach.is_on_link(host):
            raise Malformed("network")  # else somebody beyond a router could make this link talk

    def _check_ours(self, received: Received, now: float) -> None:
        """What our key signs in another session, since ours began, is not ours."""
        packet = received.packet
        if packet.session != self._us.session and packet.time > self._us.epoch // 1000 + SETTLED:
            self._check_signature(received, now)
            raise Malformed("same_key")

    def _asks_for_me(self, packet: Packet) -> bool:
        return any(want.kind == WantKind.NODE and want.value == self._us.node_id for want in packet.wants)

    def _check_signature(self, received: Received, now: float) -> None:
        known = self._index.session_of(received.node_id) == received.packet.session
        if not self._total.take("known" if known else "others", now):
            raise Malformed("total_rate")
        if not received.signature_ok():
            raise Malformed("signature")

    def _receive_v1(self, datagram: bytes, host: str, *, now: float, wall: float) -> None:
        if not self._v1:
            raise Malformed("v1")
        if self._secret is None and not self.reach.is_near(host):
            raise Malformed("network")
        packet = lan_v1.decode(datagram, secret=self._secret, now=wall)
        if not self._nodes.take("v1:" + packet.nid, now):
            raise Malformed("node_rate")
        verdict = self._index.apply_v1(packet, host, now)
        if verdict is Verdict.REPLAYED:
            raise Malformed("replayed")
        counter, name = (self.accepted, "v1") if verdict is Verdict.ACCEPT else (self.ignored, "duplicate")
        counter[name] += 1

    def _echoes(self, packet: Packet, now: float) -> bool:
        return packet.kind == Kind.ANNOUNCE and self._nonces.get(packet.nonce, -1.0) >= now


def packed(host: str) -> bytes:
    """The address as packets carry it, without scope."""
    plain = host.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in plain else socket.AF_INET, plain)
