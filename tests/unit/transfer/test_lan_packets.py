"""Our own packets."""

from __future__ import annotations

import time

import msgspec
import pytest

from hali.model.ids import InfoHashes
from hali.transfer.lan_inbox import Inbox, Us
from hali.transfer.lan_index import LanIndex
from hali.transfer.lan_outbox import PACE, LanOptions
from hali.transfer.lan_packets import LanModel, Speaker, to_wire
from hali.wire.lan import MAX_PACKET, Flag, decode
from tests.fakes.lan_node import FakeNode

OURS = LanModel("a:1b:x:q4", "ab" * 32, InfoHashes(v1="cd" * 20, v2="ef" * 32), 5)

ADDRESSES = ["127.0.0.1", "::1"]


def speaker(secret: bytes | None = None) -> Speaker:
    made = Speaker(FakeNode(), secret)
    made.set_addresses(ADDRESSES)
    made.port = 6881
    return made


def test_an_announcement_names_all_models_and_grows_in_sequence_and_round() -> None:
    talk = speaker()
    models = to_wire(msgspec.structs.replace(OURS, model_id=f"m{n}:1b:x:q4") for n in range(40))
    packets = [decode(talk.datagram(p, ADDRESSES)).packet for p in talk.announcement(models)]
    assert [m for p in packets for m in p.models] == list(models)
    assert [p.part for p in packets] == list(range(len(packets)))
    assert {p.parts for p in packets} == {len(packets)}
    assert {p.round for p in packets} == {1}
    assert [p.sequence for p in packets] == list(range(1, len(packets) + 1))
    assert talk.announcement(models)[0].round == 2


def test_a_catalogue_of_1000_models_is_told_within_a_turn_and_taken_whole() -> None:
    talk, index = speaker(), LanIndex()
    inbox, now = Inbox(index, Us(b""), None), 0.0
    long_names = [f"some-longer-name-{n}:70b:instruct:iq4_xs" for n in range(1000)]
    ours = [
        LanModel(name, f"{n:064x}"[::-1], InfoHashes(v1="cd" * 20, v2=f"{n:064x}"), 10**9 + n)
        for n, name in enumerate(long_names)
    ]
    for packet in talk.announcement(to_wire(ours)):
        now += 1 / PACE
        datagram = talk.datagram(packet, ADDRESSES)
        assert len(datagram) <= MAX_PACKET
        inbox.receive(datagram, "127.0.0.1", 1, now=now, wall=time.time())
    assert not inbox.drops
    assert [e.model_id for e in index.entries(now)] == sorted(long_names)
    assert now < LanOptions().interval * (1 - LanOptions().jitter)


def test_having_nothing_is_one_empty_complete_announcement() -> None:
    (packet,) = speaker().announcement(())
    assert (packet.parts, packet.models) == (1, ())


def test_an_answer_echoes_the_nonce_and_stays_within_the_limit() -> None:
    talk = speaker(b"secret")
    packets = talk.answer(to_wire([OURS] * 9), b"12345678", 700)
    assert all(len(talk.datagram(p, ADDRESSES)) <= 700 for p in packets)
    assert {p.nonce for p in packets} == {b"12345678"}
    assert {p.parts for p in packets} == {0}


def test_each_start_is_another_session() -> None:
    assert speaker().goodbye().session != speaker().goodbye().session


def test_models_keep_what_others_need_to_fetch_them() -> None:
    (wire,) = to_wire([msgspec.structs.replace(OURS, complete=False)])
    assert (wire.sha256.hex(), wire.v2.hex(), wire.v1.hex()) == ("ab" * 16, "ef" * 32, "cd" * 20)
    assert wire.flags == Flag.PARTIAL


@pytest.mark.parametrize(
    "bad",
    [
        msgspec.structs.replace(OURS, sha256="ab"),
        msgspec.structs.replace(OURS, infohashes=InfoHashes(v1="cd" * 20)),
        msgspec.structs.replace(OURS, infohashes=InfoHashes(v1="x", v2="ef" * 32)),
    ],
)
def test_models_without_hashes_are_not_announced(bad: LanModel) -> None:
    with pytest.raises(ValueError, match="announceable"):
        to_wire([bad])
