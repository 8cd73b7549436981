"""What is remembered of the neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from hali.transfer import lan_index
from hali.transfer.lan_index import NODE_MEMORY, LanIndex, Verdict
from hali.transfer.lan_match import matcher, wants_for
from hali.transfer.lan_view import MODEL_TTL
from hali.wire.lan import Flag, Kind, Model, Want, WantKind
from hali.wire.lan_v1 import ModelV1, PacketV1
from tests.fakes.lan_node import WALL, FakeNode, model


def tell(index: LanIndex, node: FakeNode, now: float = 0.0, source: str | None = None, **changes: Any) -> None:
    packet = node.packet(**changes)
    index.apply(node.id, packet, source or node.address, packet.sequence, now)


def answers(wants: Sequence[Want], held: Model) -> bool:
    return matcher(wants)(held.id, held.sha256, held.v2, held.v1)


def judge(index: LanIndex, node: FakeNode, echoed: bool = False, **changes: Any) -> Verdict:
    return index.judge(node.id, node.packet(**changes), 0, now=0.0, wall=WALL, echoed=echoed)


def test_what_a_node_tells_is_found_with_where_to_get_it() -> None:
    index = LanIndex()
    tell(index, FakeNode(), models=(model(),))
    (entry,) = index.entries(5.0)
    assert entry.peers == (("192.0.2.7", 6881),)
    assert (entry.sha256_prefix, entry.size, entry.age_s) == (model().sha256.hex(), 1000, 5.0)
    assert (entry.infohashes.v1, entry.infohashes.v2) == (model().v1.hex(), model().v2.hex())
    assert entry.complete


def test_holders_of_one_model_are_one_entry_freshest_first() -> None:
    index = LanIndex()
    for seed in (1, 2, 3):
        tell(index, FakeNode(seed, f"10.0.0.{seed}"), now=float(seed), models=(model(),))
    (entry,) = index.entries(3.0)
    assert entry.peers == (("10.0.0.3", 6881), ("10.0.0.2", 6881), ("10.0.0.1", 6881))


def test_one_file_with_two_infohashes_is_two_entries() -> None:
    index = LanIndex()
    tell(index, FakeNode(1), models=(model(),))
    tell(index, FakeNode(2), models=(msgspec.structs.replace(model(), v2=b"x" * 32),))
    assert len(index.entries(0.0)) == 2


def test_a_partial_seed_is_not_complete() -> None:
    index = LanIndex()
    tell(index, FakeNode(), models=(msgspec.structs.replace(model(), flags=Flag.PARTIAL),))
    assert not index.entries(0.0)[0].complete


def test_a_complete_announcement_drops_what_it_does_not_name() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1), model(2)), round=1, parts=1)
    tell(index, node, models=(model(2),), round=2, part=0, parts=2)
    assert len(index.entries(0.0)) == 2  # half an announcement proves nothing
    tell(index, node, models=(model(3),), round=2, part=1, parts=2)
    assert [e.size for e in index.entries(0.0)] == [1002, 1003]


def test_an_answer_to_a_query_drops_nothing() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1), model(2)), round=1, parts=1)
    tell(index, node, models=(model(2),))
    assert len(index.entries(0.0)) == 2


def test_an_empty_complete_announcement_takes_everything_back() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1),), round=1, parts=1)
    tell(index, node, round=2, parts=1)
    assert index.entries(0.0) == []


def test_goodbye_ends_it_at_once_and_is_not_undone_by_older_packets() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1),), round=1, parts=1)
    tell(index, node, kind=Kind.GOODBYE)
    assert index.entries(0.0) == []
    assert judge(index, node, sequence=1) is Verdict.REPLAYED


def test_a_node_offers_something_from_its_first_model_to_its_goodbye_or_silence() -> None:
    index, one, other = LanIndex(), FakeNode(1), FakeNode(2)
    tell(index, one, kind=Kind.QUERY)
    assert index.offering() == frozenset()
    tell(index, one, models=(model(),))
    tell(index, other, models=(model(),))
    index.apply_v1(PacketV1("1", "nid", 0, (ModelV1("a:b:c:d", "a" * 40),), 7000), "192.0.2.9", 0.0)
    assert index.offering() == {one.id.hex(), other.id.hex(), "v1:nid"}
    tell(index, one, kind=Kind.GOODBYE)
    assert index.offering() == {other.id.hex(), "v1:nid"}
    index.expire(MODEL_TTL + 1)
    assert index.offering() == frozenset()


def test_news_add_and_take_away_single_models() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1), model(2)), round=1, parts=1)
    tell(index, node, models=(model(3), msgspec.structs.replace(model(1), flags=0)))
    assert [e.size for e in index.entries(0.0)] == [1002, 1003]


def test_news_told_during_an_announcement_outlive_its_end() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1),), round=1, parts=1)
    tell(index, node, models=(model(9),), round=2)  # overtook the first packet of the announcement it interrupts
    tell(index, node, models=(model(1),), round=2, part=0, parts=2)
    tell(index, node, models=(model(8),), round=2)
    tell(index, node, models=(model(2),), round=2, part=1, parts=2)
    assert [e.size for e in index.entries(0.0)] == [1001, 1002, 1008, 1009]


def test_silence_ends_models_first_and_the_memory_of_sequences_later() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1),), round=1, parts=1)
    index.expire(MODEL_TTL + 1)
    assert (index.models, len(index)) == (0, 1)
    index.expire(NODE_MEMORY + 1)
    assert len(index) == 0


def test_entries_too_old_are_not_shown_even_before_they_expire() -> None:
    index = LanIndex()
    tell(index, FakeNode(), models=(model(1),))
    assert index.entries(MODEL_TTL + 1) == []


def test_sequences_must_grow() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, sequence=5)
    assert judge(index, node, sequence=6) is Verdict.ACCEPT
    assert judge(index, node, sequence=4) is Verdict.REORDERED
    assert judge(index, node, sequence=5) is Verdict.REPLAYED


def test_what_came_before_all_that_is_remembered_counts_as_replayed() -> None:
    index, node = LanIndex(), FakeNode()
    for sequence in range(2, 2 * lan_index.RECENT, 2):
        tell(index, node, sequence=sequence)
    assert judge(index, node, sequence=3) is Verdict.REORDERED
    for sequence in range(2 * lan_index.RECENT, 4 * lan_index.RECENT, 2):
        tell(index, node, sequence=sequence)
    assert judge(index, node, sequence=3) is Verdict.REPLAYED


def test_the_same_datagram_again_is_a_duplicate_and_adds_its_source() -> None:
    index, node = LanIndex(), FakeNode()
    packet = node.packet(models=(model(),))
    index.apply(node.id, packet, "192.0.2.7", 99, 0.0)
    later = lan_index.DUPLICATE_WITHIN + 1
    assert index.judge(node.id, packet, 99, now=later, wall=WALL, echoed=False) is Verdict.REPLAYED
    assert index.judge(node.id, packet, 99, now=0.1, wall=WALL, echoed=False) is Verdict.DUPLICATE
    index.add_duplicate(node.id, "127.0.0.1")
    assert index.entries(0.0)[0].peers == (("127.0.0.1", 6881), ("192.0.2.7", 6881))


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"session": b"T" * 16, "epoch": int(WALL * 1000) + 1}, Verdict.ACCEPT),  # restarted
        ({"session": b"T" * 16, "epoch": int(WALL * 1000) - 1}, Verdict.REPLAYED),  # an older session
        ({"session": b"T" * 16}, Verdict.REPLAYED),  # another one of the same moment
        ({"session": b"T" * 16, "epoch": int(WALL * 1000) + 1, "time": int(WALL) - 400}, Verdict.REPLAYED),
    ],
)
def test_another_session_needs_a_later_epoch_and_a_present_time(changes: dict[str, Any], verdict: Verdict) -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node)
    assert judge(index, node, **changes) is verdict


def test_a_restart_with_the_clock_set_back_is_believed_after_a_sign_of_life() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, models=(model(1),))
    restarted = {"session": b"T" * 16, "epoch": 5, "time": 5}
    assert judge(index, node, **restarted) is Verdict.REPLAYED
    assert judge(index, node, echoed=True, **restarted) is Verdict.ACCEPT
    tell(index, node, models=(model(2),), **restarted)
    assert [e.size for e in index.entries(0.0)] == [1002]
    assert judge(index, node, **restarted) is Verdict.ACCEPT  # from now on by its sequence


@pytest.mark.parametrize(("offset", "verdict"), [(-30, Verdict.ACCEPT), (30, Verdict.ACCEPT), (-31, Verdict.UNPROVEN)])
def test_an_unknown_node_is_believed_if_its_clock_is_near_ours(offset: int, verdict: Verdict) -> None:
    assert judge(LanIndex(), FakeNode(), time=int(WALL) + offset) is verdict
    assert judge(LanIndex(), FakeNode(), echoed=True, time=0) is Verdict.ACCEPT


def test_an_echo_does_not_help_a_recording_of_the_known_session() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, sequence=9)
    assert judge(index, node, echoed=True, sequence=9) is Verdict.REPLAYED


def test_link_local_addresses_are_used_only_without_others() -> None:
    index, node = LanIndex(), FakeNode()
    tell(index, node, source="fe80::1%2", models=(model(),))
    assert index.entries(0.0)[0].peers == (("fe80::1%2", 6881),)
    index.add_duplicate(node.id, "192.0.2.7")
    assert index.entries(0.0)[0].peers == (("192.0.2.7", 6881),)


def test_changes_are_reported() -> None:
    calls: list[None] = []
    index = LanIndex(lambda: calls.append(None))
    tell(index, FakeNode(), models=(model(),))
    index.expire(MODEL_TTL + 1)
    assert len(calls) == 2


def test_nodes_of_version_1_are_shown_as_such() -> None:
    index = LanIndex()
    index.apply_v1(PacketV1("1", "nid", 0, (ModelV1("a:b:c:d", "a" * 40),), 7000), "192.0.2.9", 0.0)
    (entry,) = index.entries(0.0)
    assert (entry.protocol, entry.sha256_prefix, entry.size, entry.peers) == (1, "", None, (("192.0.2.9", 7000),))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("smollm2", True),
        ("SmolLM2:135M", True),
        ("llama", False),
        ((b"\0\0\0\7" * 4).hex(), True),
        ((b"\0\0\0\7" * 4).hex() + "00" * 16, True),  # a SHA-256 of which a packet has half
        ((b"\0\0\0\7" * 8).hex(), True),
        ((b"\0\0\0\7" * 5).hex(), True),
        ("00000007", True),
        ("0000000", False),
        ("ff" * 16, False),
    ],
)
def test_a_model_is_found_by_part_of_its_id_its_sha256_or_its_infohash(text: str, fits: bool) -> None:
    assert answers(wants_for(text), model(7)) is fits


@pytest.mark.parametrize("text", ["", "   ", "x" * 129])
def test_what_nobody_can_have_is_not_asked_for(text: str) -> None:
    assert wants_for(text) == ()


def test_wants_of_unknown_kinds_fit_nothing() -> None:
    assert not answers([Want(99, b"x"), Want(WantKind.SHA256, b"\0")], model())


def test_an_unknown_hash_is_not_taken_for_an_empty_one() -> None:
    assert not answers([Want(WantKind.INFOHASH, b"\0" * 20)], msgspec.structs.replace(model(7), v1=b""))


def test_those_who_have_parts_do_not_count_where_somebody_who_has_all_is_asked_for() -> None:
    index = LanIndex()
    for seed, flags in enumerate((Flag.PARTIAL, Flag.PARTIAL, Flag.COMPLETE), start=1):
        one = msgspec.structs.replace(model(), flags=flags)
        tell(index, FakeNode(seed, f"10.0.0.{seed}"), now=float(seed), models=(one,))
    assert index.holders_since(model().sha256, 0.0, complete=True) == 1
    assert index.holders_since(model().sha256, 0.0, complete=False) == 3
    assert index.holders_since(model().sha256, 3.5, complete=False) == 0
