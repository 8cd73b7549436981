"""What is done with an incoming datagram: the checks, cheap ones first, and a counter for every reason to drop it."""

from __future__ import annotations

import hashlib
import os
import socket
from collections import Counter, OrderedDict

import msgspec

from hali.transfer.lan_index import LanIndex, Verdict
from hali.wire import lan_v1
from hali.wire.lan import Kind, Malformed, Packet, Received, WantKind, decode

NODE_RATE = 10.0  # packets per second and node (sharing.md) …
NODE_BURST = 20.0  # … and at once: an announcement of some 140 models
SOURCE_RATE = 200.0  # datagrams per second and address before any signature is checked: several daemons on one machine
SOURCE_BURST = 400.0
TOTAL_RATE = 1000.0  # of signatures that are checked: about 0.1 s of a core per second
MAX_BUCKETS = 2048
NONCE_LIFE = 10.0  # seconds; answers come within 250 ms, but a paced answer of a busy node may wait
MAX_NONCES = 256


class Question(msgspec.Struct, frozen=True):
    """A verified query: what it asks, where to answer by unicast (None: multicast), with how many bytes at most."""

    packet: Packet
    reply_to: tuple[str, int] | None
    limit: int


class Stale(msgspec.Struct, frozen=True):
    """A properly signed packet that is too old to be believed: its node should be asked for a sign of life."""

    node: bytes


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
    """Checks datagrams and feeds the index. `drops` counts by reason what was not believed."""

    def __init__(self, index: LanIndex, me: bytes, secret: bytes | None, *, v1: bool = True) -> None:
        self.drops: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self._index, self._me, self._secret, self._v1 = index, me, secret, v1
        self._sources = Buckets(SOURCE_RATE, SOURCE_BURST)
        self._nodes = Buckets(NODE_RATE, NODE_BURST)
        self._total = Buckets(TOTAL_RATE, TOTAL_RATE)
        self._nonces: OrderedDict[bytes, float] = OrderedDict()

    def new_nonce(self, now: float) -> bytes:
        """A number nobody can have signed before."""
        nonce = os.urandom(8)
        self._nonces[nonce] = now + NONCE_LIFE
        while len(self._nonces) > MAX_NONCES:
            self._nonces.popitem(last=False)
        return nonce

    def receive(self, datagram: bytes, host: str, port: int, *, now: float, wall: float) -> Question | Stale | None:
        """Judges one datagram from `host` (IPv6 link-local with scope); a query or a stale packet is for the caller."""
        try:
            if not self._sources.take(host, now):
                raise Malformed("source_rate")
            if lan_v1.looks_like_v1(datagram):
                self._receive_v1(datagram, host, now=now, wall=wall)
                return None
            received = decode(datagram)
            if received.node_id == self._me:
                return None  # our own multicast
            return self._receive_v2(received, datagram, (host, port), now=now, wall=wall)
        except Malformed as error:
            self.drops[error.reason] += 1
            return None

    def _receive_v2(
        self, received: Received, datagram: bytes, source: tuple[str, int], *, now: float, wall: float
    ) -> Question | Stale | None:
        packet, node, host = received.packet, received.node_id, source[0]
        digest = int.from_bytes(hashlib.blake2b(datagram, digest_size=8).digest())
        if packed(host) not in packet.addresses:
            raise Malformed("address")
        verdict = self._index.judge(node, packet, digest, wall=wall, echoed=self._echoes(packet, now))
        if verdict is Verdict.DUPLICATE:
            self._index.add_duplicate(node, host)
        if verdict is not Verdict.ACCEPT and self._index.session_of(node) == packet.session:
            raise Malformed(verdict.value)
        self._check_sender(received, now)
        if verdict is not Verdict.ACCEPT:
            self.drops[verdict.value] += 1
            # Who asks us for a sign of life gets it whatever the clocks say: else two that disagree would never meet.
            return Question(packet, None, 0) if self._asks_for_me(packet) else Stale(node)
        if not self._nodes.take(node, now):  # only believed packets count: a replayer cannot use up a node's share
            raise Malformed("node_rate")
        if not self._index.apply(node, packet, host, digest, now):
            raise Malformed("crowded")
        self.accepted[Kind(packet.kind).name.lower()] += 1
        if packet.kind != Kind.QUERY:
            return None
        return Question(packet, source if packet.padding else None, len(datagram))

    def _asks_for_me(self, packet: Packet) -> bool:
        return any(want.kind == WantKind.NODE and want.value == self._me for want in packet.wants)

    def _check_sender(self, received: Received, now: float) -> None:
        if not received.mac_ok(self._secret):
            raise Malformed("mac")
        if not self._total.take("", now):
            raise Malformed("total_rate")
        if not received.signature_ok():
            raise Malformed("signature")

    def _receive_v1(self, datagram: bytes, host: str, *, now: float, wall: float) -> None:
        if not self._v1:
            raise Malformed("v1")
        packet = lan_v1.decode(datagram, secret=self._secret, now=wall)
        if not self._nodes.take("v1:" + packet.nid, now):
            raise Malformed("node_rate")
        if not self._index.apply_v1(packet, host, now):
            raise Malformed("crowded")
        self.accepted["v1"] += 1

    def _echoes(self, packet: Packet, now: float) -> bool:
        return packet.kind == Kind.ANNOUNCE and self._nonces.get(packet.nonce, -1.0) >= now


def packed(host: str) -> bytes:
    """The address as packets carry it, without scope."""
    plain = host.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in plain else socket.AF_INET, plain)
