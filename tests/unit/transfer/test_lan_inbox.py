"""Checks on incoming datagrams."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from hali.transfer import lan_inbox
from hali.transfer.lan_inbox import Buckets, Inbox, Page, Question, Stale, Us
from hali.transfer.lan_index import FRESH, LanIndex
from hali.transfer.lan_interfaces import Reach
from hali.wire.canonical import MAC, signing_input
from hali.wire.lan import DOMAIN, MAX_WANTS, PROBE, Kind, Want, WantKind
from tests.fakes.lan_node import LINK, WALL, FakeNode, model

SECRET = b"k" * 32


class Desk:
    """An inbox with its index and a clock."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.index = LanIndex()
        self.inbox = Inbox(self.index, Us(b"m" * 32), secret)
        self.inbox.reach = LINK
        self.now = 100.0

    def get(
        self, datagram: bytes, host: str = "192.0.2.7", port: int = 5000, *, unicast: bool = False
    ) -> Question | Stale | Page | None:
        return self.inbox.receive(datagram, host, port, now=self.now, wall=WALL, unicast=unicast)

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
    assert (desk.models, desk.drops) == (1, {"reordered": 1})


def test_a_forged_packet_is_dropped_and_does_not_move_the_sequence() -> None:
    desk, node = Desk(), FakeNode()
    forged = bytearray(node.datagram(models=(model(1),), sequence=10**6))
    forged[-10] ^= 1  # in the signature
    desk.get(bytes(forged))
    desk.get(node.datagram(models=(model(2),)))
    assert (desk.models, desk.drops) == (1, {"signature": 1})


def test_garbage_and_oversized_datagrams_have_their_own_counters() -> None:
    desk = Desk()
    for bad in (b"", b"\x93", b"hello", bytes(1201), b"{}", b'{"v":'):
        desk.get(bad)
    assert desk.drops == {"truncated": 3, "malformed": 2, "oversized": 1}


def test_a_query_for_too_many_things_is_not_read() -> None:
    desk, want = Desk(), Want(WantKind.TEXT, b"a")
    assert isinstance(desk.get(FakeNode().datagram(kind=Kind.QUERY, wants=(want,) * MAX_WANTS)), Question)
    assert desk.get(FakeNode(2).datagram(kind=Kind.QUERY, wants=(want,) * (MAX_WANTS + 1))) is None
    assert desk.drops == {"malformed": 1}


def test_a_packet_cut_short_anywhere_is_counted_as_truncated() -> None:
    desk, datagram = Desk(), FakeNode().datagram(models=(model(),))
    for length in range(len(datagram)):
        desk.get(datagram[:length])
    assert desk.drops == {"truncated": len(datagram)}


def test_with_a_secret_only_its_holders_are_heard() -> None:
    desk = Desk(SECRET)
    desk.get(FakeNode(1).datagram(models=(model(),)))
    desk.get(FakeNode(2, secret=b"other").datagram(models=(model(),)))
    assert (desk.models, desk.drops) == (0, {"mac": 2})
    desk.get(FakeNode(3, secret=SECRET).datagram(models=(model(),)))
    assert desk.models == 1


def test_without_a_secret_packets_with_a_mac_are_not_read() -> None:
    desk = Desk()
    desk.get(FakeNode(secret=SECRET).datagram(models=(model(),)))
    assert (desk.models, desk.drops) == (0, {"mac": 1})


def test_the_mac_is_checked_before_what_it_covers_is_read() -> None:
    desk, node = Desk(SECRET), FakeNode()
    signed = node.sign(signing_input(DOMAIN, b"no packet"))
    desk.get(msgspec.msgpack.encode([b"no packet", signed, b"\0" * MAC]))
    assert desk.drops == {"mac": 1}


def test_our_own_multicast_is_no_drop() -> None:
    node = FakeNode()
    index = LanIndex()
    inbox = Inbox(index, Us(node.id, b"S" * 16, int(WALL * 1000)), None)
    inbox.receive(node.datagram(models=(model(),)), node.address, 1, now=0.0, wall=WALL)
    assert (index.models, inbox.drops, inbox.ignored) == (0, {}, {"own": 1})


def test_what_another_node_signs_with_our_key_is_counted_apart() -> None:
    ours = FakeNode()
    inbox = Inbox(LanIndex(), Us(ours.id, b"S" * 16, int(WALL * 1000)), None)
    inbox.reach = LINK

    def hear(datagram: bytes) -> tuple[int, dict[str, int]]:
        inbox.receive(datagram, ours.address, 1, now=0.0, wall=WALL)
        return inbox.ignored["own"], dict(inbox.drops)

    # The last words of our session before this one may come back late.
    assert hear(ours.datagram(session=b"T" * 16, time=int(WALL) + lan_inbox.SETTLED)) == (1, {})
    assert hear(ours.datagram(time=int(WALL) + 100)) == (2, {})
    copied = ours.datagram(session=b"T" * 16, time=int(WALL) + lan_inbox.SETTLED + 1)
    assert hear(copied) == (2, {"same_key": 1})
    forged = bytearray(copied)
    forged[-10] ^= 1  # in the signature
    assert hear(bytes(forged)) == (2, {"same_key": 1, "signature": 1})


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
    monkeypatch.setattr(lan_inbox, "decode", lambda *args: parsed.append(1) or real(*args))
    for _ in range(1000):
        desk.get(b"x")
    assert len(parsed) == lan_inbox.SOURCE_BURST
    assert desk.drops["source_rate"] == 1000 - lan_inbox.SOURCE_BURST


def test_a_query_is_handed_on_and_answered_by_unicast_only_if_it_came_so() -> None:
    desk, node = Desk(), FakeNode()
    want = (Want(WantKind.TEXT, b"llama"),)
    plain = desk.get(node.datagram(kind=Kind.QUERY, wants=want, nonce=b"12345678"))
    assert isinstance(plain, Question)
    assert (plain.packet.wants, plain.reply_to) == (want, None)
    datagram = node.datagram(kind=Kind.QUERY, wants=want, padding=bytes(700))
    padded = desk.get(datagram, port=6000, unicast=True)
    assert isinstance(padded, Question)
    assert (padded.reply_to, padded.limit) == (("192.0.2.7", 6000), len(datagram))


def test_a_stale_node_is_asked_for_a_sign_of_life_and_believed_when_it_gives_one() -> None:
    desk, node = Desk(), FakeNode()
    stale: dict[str, Any] = {"time": 5, "epoch": 5, "session": b"T" * 16}
    datagram = node.datagram(models=(model(),), **stale)
    assert desk.get(datagram) == Stale(node.id, None, len(datagram))
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
    other = node.datagram(kind=Kind.QUERY, wants=(Want(WantKind.TEXT, b"x"),), time=5)
    assert desk.get(other, unicast=True) == Stale(node.id, ("192.0.2.7", 5000), len(other))


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
    inbox = Inbox(LanIndex(), Us(b"m" * 32), None, v1=False)
    inbox.receive(v1(), "192.0.2.7", 1, now=0.0, wall=WALL)
    assert inbox.drops == {"v1": 1}


def test_a_public_address_outside_of_our_networks_needs_the_secret_or_to_be_a_configured_peer() -> None:
    far = "8.8.8.8"
    plain, configured, secret = Desk(), Desk(), Desk(SECRET)
    configured.inbox.reach = Reach((), [far])
    for desk in (plain, configured, secret):
        desk.get(FakeNode(1, far, secret=SECRET if desk is secret else None).datagram(models=(model(),)), far)
    assert [desk.models for desk in (plain, configured, secret)] == [0, 1, 1]
    assert plain.drops == {"network": 1}


def test_a_private_address_of_another_subnet_is_believed_but_makes_no_multicast() -> None:
    desk, node = Desk(), FakeNode(1, "172.16.0.9")
    desk.get(node.datagram(models=(model(),)), node.address)
    assert desk.models == 1
    query = {"kind": Kind.QUERY, "wants": (Want(WantKind.TEXT, b"x"),)}
    assert desk.get(node.datagram(**query), node.address) is None
    assert desk.drops == {"network": 1}
    assert isinstance(desk.get(node.datagram(**query), node.address, unicast=True), Question)


def test_a_flood_of_unknown_keys_does_not_use_up_the_signatures_of_acquaintances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lan_inbox, "TOTAL_RATE", 10.0)
    desk, friend = Desk(), FakeNode(1)
    desk.get(friend.datagram())
    for seed in range(2, 30):
        desk.get(FakeNode(seed, f"10.0.0.{seed}").datagram(), f"10.0.0.{seed}")
    desk.get(friend.datagram(models=(model(),)))
    assert (desk.models, desk.drops) == (1, {"total_rate": 19})


def test_the_first_page_of_a_longer_catalogue_is_handed_on_only_as_an_answer_to_us() -> None:
    desk, node = Desk(), FakeNode()
    assert desk.get(node.datagram(models=(model(),), pages=3)) is None
    nonce = desk.inbox.new_nonce(desk.now)
    assert desk.get(node.datagram(models=(model(),), nonce=nonce, pages=3)) == Page(("192.0.2.7", 5000), 3)
    assert desk.get(node.datagram(models=(model(2),), nonce=nonce, part=1, pages=3)) is None
    assert desk.models == 2


def test_a_recording_is_believed_after_our_restart_only_while_it_is_fresh_and_from_its_own_address() -> None:
    recording = FakeNode().datagram(models=(model(),))
    for age, host, models, drops in (
        (FRESH, "192.0.2.7", 1, {}),
        (FRESH + 1, "192.0.2.7", 0, {"unproven": 1}),
        (1.0, "192.0.2.66", 0, {"address": 1}),
    ):
        restarted = Desk()
        restarted.inbox.receive(recording, host, 5000, now=0.0, wall=WALL + age)
        assert (restarted.models, restarted.drops) == (models, drops)


def test_the_announcement_of_version_1_counts_once_and_an_older_one_not_at_all() -> None:
    desk = Desk()
    desk.get(v1(ts=int(WALL) - 1))
    desk.get(v1())
    desk.get(v1(), "192.0.2.66")  # the copy of another interface, or a recording: the first address stays
    desk.get(v1(ts=int(WALL) - 1))
    assert desk.index.entries(desk.now)[0].peers == (("192.0.2.7", 7000),)
    assert (dict(desk.inbox.ignored), desk.drops) == ({"duplicate": 1}, {"replayed": 1})


def test_buckets_forget_the_least_used_keys() -> None:
    buckets = Buckets(1.0, 1.0)
    for number in range(10 * lan_inbox.MAX_BUCKETS):
        assert buckets.take(str(number), 0.0)
    assert len(buckets._levels) <= lan_inbox.MAX_BUCKETS


def test_what_a_doctor_sends_to_itself_is_nobodys_concern() -> None:
    desk = Desk(SECRET)
    assert desk.get(PROBE + bytes(16)) is None
    assert (desk.models, desk.drops, dict(desk.inbox.ignored)) == (0, {}, {"probe": 1})
