"""Mutated LAN datagrams: nothing but `Malformed` comes out of the parsers, and no mutant is believed.

HALI_FUZZ_ROUNDS=1000000 runs longer; HALI_FUZZ_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random

import msgspec
import pytest

from hali.transfer.lan_inbox import Inbox, Us
from hali.transfer.lan_index import LanIndex
from hali.wire.lan import Kind, Want, WantKind
from tests.fakes.lan_node import LINK, WALL, FakeNode, model

ROUNDS = int(os.environ.get("HALI_FUZZ_ROUNDS", "50000"))  # about 3 s
SECRET = b"s" * 32
SEED = int(os.environ.get("HALI_FUZZ_SEED", "20260101"))


def corpus() -> list[bytes]:
    """Every kind of packet, without a MAC and with one."""
    one = {"id": "a:b:c:d", "ih": "a" * 40, "ih2": "b" * 64}
    old = json.dumps({"v": "1", "nid": "n", "ts": 10**12, "p": 7000, "models": [one]}).encode()
    return [*packets(FakeNode(1)), *packets(FakeNode(2, secret=SECRET)), old]


def packets(node: FakeNode) -> list[bytes]:
    wants = (Want(WantKind.TEXT, b"llama"), Want(WantKind.SHA256, b"s" * 16), Want(WantKind.INFOHASH, b"i" * 20))
    gone = msgspec.structs.replace(model(1), flags=0)
    return [
        node.datagram(models=tuple(model(n) for n in range(6)), round=3, parts=1),
        node.datagram(models=(model(1),), nonce=b"12345678", part=1, pages=3),
        node.datagram(models=(model(2), gone), round=3),
        node.datagram(kind=Kind.QUERY, wants=wants, nonce=b"12345678", padding=bytes(700)),
        node.datagram(kind=Kind.QUERY, wants=(Want(WantKind.NODE, b"n" * 32),), nonce=b"12345678"),
        node.datagram(kind=Kind.QUERY, nonce=b"12345678", part=2),
        node.datagram(kind=Kind.GOODBYE),
    ]


def mutant(draw: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0 if place < len(data):
                data[place] ^= 1 << draw.randrange(8)
            case 1 if place < len(data):
                data[place] = draw.choice((0x00, 0x7F, 0x80, 0xC4, 0xC6, 0xDD, 0xDF, 0xFF))
            case 2:
                del data[place : place + draw.randrange(1, 40)]
            case 3:
                data[place:place] = draw.randbytes(draw.randrange(1, 40))
            case 4:
                other = draw.choice(seeds)
                data[place:] = other[draw.randrange(len(other)) :]
            case _:
                data[place:place] = data[: draw.randrange(1, 60)]
    return bytes(data)


@pytest.mark.parametrize("secret", [None, SECRET])
def test_mutants_are_dropped_and_harm_nothing(secret: bytes | None) -> None:
    draw, seeds, index = random.Random(SEED), corpus(), LanIndex()
    inbox = Inbox(index, Us(b""), secret)
    inbox.reach = LINK
    originals, now, tried = set(seeds), 0.0, 0
    for number in range(ROUNDS // 2):
        now += 1.0
        datagram = mutant(draw, seeds)
        if datagram not in originals:
            tried += 1
            found = inbox.receive(datagram, "192.0.2.7", 5000, now=now, wall=WALL, unicast=number % 2 == 0)
            assert found is None, (SEED, datagram.hex())
    assert not inbox.accepted
    assert len(index) == 0
    assert inbox.drops.total() == tried
    assert inbox.drops.keys() >= {"mac", "malformed", "truncated", "oversized"}


def test_the_unchanged_packets_are_understood() -> None:
    """Otherwise the mutants would prove nothing."""
    for node, secret in ((FakeNode(1), None), (FakeNode(2, secret=SECRET), SECRET)):
        inbox = Inbox(LanIndex(), Us(b""), secret)
        inbox.reach = LINK
        for datagram in packets(node):
            inbox.receive(datagram, node.address, 5000, now=0.0, wall=WALL)
        assert (dict(inbox.accepted), inbox.drops) == ({"announce": 3, "query": 3, "goodbye": 1}, {})
