"""Checks on incoming datagrams."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from hali.transfer import lan_inbox
from hali.transfer.lan_inbox import Buckets, Inbox, Question, Stale
from hali.transfer.lan_index import MAX_NODES, LanIndex
from hali.wire.lan import Kind, Want, WantKind
from tests.fakes.lan_node import WALL, FakeNode, model

SECRET = b"k" * 32


class Desk:
    """An inbox with its index and a clock."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.index = LanIndex()
        self.inbox = Inbox(self.index, b"m" * 32, secret)
        self.now = 100.0

    def get(self, datagram: bytes, host: str = "192.0.2.7", port: int = 5000) -> Question | Stale | None:
        return self.inbox.receive(datagram, host, port, now=self.now, wall=WALL)

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.inbox.drops)

    @property
    def models(self) -> int:
        return self.index.models


def test_a_good_announcement_is_taken() -> None:
    desk = Desk()
    assert desk.get(FakeNode().datagram(models=(model(),))) is None
    assert (desk.models, desk.drops, dict(desk.inbox.accepted)) == (1, {}, {"announce": 1})


def test_a_replayed_packet_is_dropped_and_counted() -> None:
    desk, node = Desk(), FakeNode()
    old = node.datagram(models=(model(1),))
    for _ in range(40):  # past what is remembered as duplicates
        desk.now += 1
        desk.get(node.datagram(models=(model(2),)))
    desk.get(old)
    assert desk.drops == {"replayed": 1}


def test_a_packet_from_another_host_than_it_names_is_dropped() -> None:
    desk = Desk()
    desk.get(FakeNode(address="192.0.2.7").datagram(models=(model(),)), host="192.0.2.66")
    assert (desk.models, desk.drops) == (0, {"address": 1})


def test_reordered_packets_are_dropped() -> None:
    desk, node = Desk(), FakeNode()
    first, second = node.datagram(models=(model(1),)), node.datagram(models=(model(2),))
    desk.get(second)
    desk.get(first)
    assert (desk.models, desk.drops) == (1, {"replayed": 1})


def test_a_forged_packet_is_dropped_and_does_not_move_the_sequence() -> None:
    desk, node = Desk(), FakeNode()
    forged = bytearray(node.datagram(models=(model(1),), sequence=10**6))
    forged[-10] ^= 1  # in the signature
    desk.get(bytes(forged))
    desk.get(node.datagram(models=(model(2),)))
    assert (desk.models, desk.drops) == (1, {"signature": 1})


def test_garbage_and_oversized_datagrams_have_their_own_counters() -> None:
    desk = Desk()
    for bad in (b"", b"\x93", b"hello", bytes(1201), b"{}"):
        desk.get(bad)
    assert desk.drops == {"malformed": 4, "oversized": 1}


def test_with_a_secret_only_its_holders_are_heard() -> None:
    desk = Desk(SECRET)
    desk.get(FakeNode(1).datagram(models=(model(),)))
    desk.get(FakeNode(2, secret=b"other").datagram(models=(model(),)))
    assert (desk.models, desk.drops) == (0, {"mac": 2})
    desk.get(FakeNode(3, secret=SECRET).datagram(models=(model(),)))
    assert desk.models == 1


def test_without_a_secret_packets_with_a_mac_are_read_all_the_same() -> None:
    desk = Desk()
    desk.get(FakeNode(secret=SECRET).datagram(models=(model(),)))
    assert desk.models == 1


def test_our_own_multicast_is_no_drop() -> None:
    node = FakeNode()
    index = LanIndex()
    inbox = Inbox(index, node.id, None)
    inbox.receive(node.datagram(models=(model(),)), node.address, 1, now=0.0, wall=WALL)
    assert (index.models, inbox.drops) == (0, {})


def test_a_node_that_talks_too_fast_is_cut_to_its_rate() -> None:
    desk, node = Desk(), FakeNode()
    for number in range(100):
        desk.get(node.datagram(models=(model(number),)))
    assert desk.models == 20
    assert desk.drops == {"node_rate": 80}
    desk.now += 1.0
    for number in range(100, 150):
        desk.get(node.datagram(models=(model(number),)))
    assert desk.models == 30


def test_recordings_do_not_use_up_a_nodes_share() -> None:
    desk, node = Desk(), FakeNode()
    old = [node.datagram() for _ in range(15)]
    for datagram in old:
        desk.get(datagram)
    desk.now += 2
    for _ in range(10):
        for datagram in old:
            desk.get(datagram)
    desk.get(node.datagram(models=(model(),)))
    assert desk.models == 1


def test_a_flood_from_one_address_is_cut_before_signatures_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, parsed = Desk(), []
    real = lan_inbox.decode
    monkeypatch.setattr(lan_inbox, "decode", lambda datagram: parsed.append(1) or real(datagram))
    for _ in range(1000):
        desk.get(b"x")
    assert len(parsed) == lan_inbox.SOURCE_BURST
    assert desk.drops["source_rate"] == 1000 - lan_inbox.SOURCE_BURST


def test_a_query_is_handed_on_and_only_a_padded_one_may_be_answered_by_unicast() -> None:
    desk, node = Desk(), FakeNode()
    want = (Want(WantKind.TEXT, b"llama"),)
    plain = desk.get(node.datagram(kind=Kind.QUERY, wants=want, nonce=b"12345678"))
    assert isinstance(plain, Question)
    assert (plain.packet.wants, plain.reply_to) == (want, None)
    datagram = node.datagram(kind=Kind.QUERY, wants=want, padding=bytes(700))
    padded = desk.get(datagram, port=6000)
    assert isinstance(padded, Question)
    assert (padded.reply_to, padded.limit) == (("192.0.2.7", 6000), len(datagram))


def test_a_stale_node_is_asked_for_a_sign_of_life_and_believed_when_it_gives_one() -> None:
    desk, node = Desk(), FakeNode()
    stale: dict[str, Any] = {"time": 5, "epoch": 5, "session": b"T" * 16}
    outcome = desk.get(node.datagram(models=(model(),), **stale))
    assert outcome == Stale(node.id)
    assert (desk.models, desk.drops) == (0, {"unproven": 1})
    nonce = desk.inbox.new_nonce(desk.now)
    desk.get(node.datagram(models=(model(),), nonce=nonce, **stale))
    assert desk.models == 1
    desk.get(node.datagram(models=(model(2),), **stale))
    assert desk.models == 2


def test_two_nodes_whose_clocks_disagree_can_still_prove_that_they_live() -> None:
    desk, node = Desk(), FakeNode()
    ask = (Want(WantKind.NODE, b"m" * 32),)
    assert isinstance(desk.get(node.datagram(kind=Kind.QUERY, wants=ask, time=5)), Question)
    assert desk.get(node.datagram(kind=Kind.QUERY, wants=(Want(WantKind.TEXT, b"x"),), time=5)) == Stale(node.id)


def test_an_unsigned_stale_packet_asks_for_nothing() -> None:
    desk = Desk()
    forged = bytearray(FakeNode().datagram(time=5))
    forged[-10] ^= 1
    assert desk.get(bytes(forged)) is None
    assert desk.drops == {"signature": 1}


def test_a_nonce_does_not_last() -> None:
    desk, node = Desk(), FakeNode()
    nonce = desk.inbox.new_nonce(desk.now)
    desk.now += lan_inbox.NONCE_LIFE + 1
    desk.get(node.datagram(models=(model(),), nonce=nonce, time=5))
    assert desk.drops == {"unproven": 1}


def v1(**changes: object) -> bytes:
    one = {"id": "a:b:c:d", "ih": "a" * 40}
    return json.dumps({"v": "1", "nid": "n", "ts": int(WALL), "p": 7000, "models": [one]} | changes).encode()


def test_version_1_is_read_without_a_secret_and_not_with_one() -> None:
    desk = Desk()
    desk.get(v1())
    assert desk.index.entries(desk.now)[0].peers == (("192.0.2.7", 7000),)
    strict = Desk(SECRET)
    strict.get(v1())
    assert strict.drops == {"mac": 1}


def test_version_1_can_be_switched_off() -> None:
    inbox = Inbox(LanIndex(), b"m" * 32, None, v1=False)
    inbox.receive(v1(), "192.0.2.7", 1, now=0.0, wall=WALL)
    assert inbox.drops == {"v1": 1}


def test_ten_thousand_nodes_leave_memory_bounded() -> None:
    desk = Desk()
    tracemalloc.start()
    for seed in range(1, 10_001):
        address = f"10.{seed >> 16}.{seed >> 8 & 255}.{seed & 255}"
        desk.now += 0.01
        desk.get(FakeNode(seed, address).datagram(models=tuple(model(seed * 8 + n) for n in range(6))), address)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(desk.index) == MAX_NODES
    assert sum(desk.inbox.accepted.values()) == 10_000
    assert held < 16 * 1024 * 1024


def test_buckets_forget_the_least_used_keys() -> None:
    buckets = Buckets(1.0, 1.0)
    for number in range(10 * lan_inbox.MAX_BUCKETS):
        assert buckets.take(str(number), 0.0)
    assert len(buckets._levels) <= lan_inbox.MAX_BUCKETS
