"""LAN packets, version 2."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hali.wire.lan import (
    MAX_PACKET,
    Kind,
    Malformed,
    Model,
    Packet,
    Want,
    WantKind,
    decode,
    encode,
    node_id,
    pack_addresses,
    pad,
    split_models,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
MODEL = Model(b"s" * 16, b"2" * 32, b"1" * 20, "smollm2:135m:instruct:q4_1", 98_362_432)


def packet(**changes: object) -> Packet:
    base = Packet(
        kind=Kind.ANNOUNCE, key=PUBLIC, session=b"S" * 16, epoch=1_700_000_000_000, sequence=1, time=1_700_000_000
    )
    return msgspec.structs.replace(base, **changes)


def test_what_was_encoded_comes_back_and_is_signed() -> None:
    sent = packet(models=(MODEL,), addresses=pack_addresses(["192.0.2.7", "fe80::1%eth0"]), port=6881)
    received = decode(encode(sent, KEY.sign))
    assert received.packet == sent
    assert received.signature_ok()
    assert received.node_id == node_id(PUBLIC)


def test_one_changed_bit_of_the_body_breaks_the_signature() -> None:
    datagram = bytearray(encode(packet(models=(MODEL,)), KEY.sign))
    datagram[datagram.index(b"smollm2")] ^= 1
    assert not decode(bytes(datagram)).signature_ok()


@pytest.mark.parametrize(("sent", "expected"), [(None, b"secret"), (b"other", b"secret"), (b"secret", None)])
def test_a_missing_foreign_or_unasked_mac_is_refused(sent: bytes | None, expected: bytes | None) -> None:
    with pytest.raises(Malformed, match="mac"):
        decode(encode(packet(), KEY.sign, sent), expected)
    assert decode(encode(packet(), KEY.sign, sent), sent).packet == packet()


def test_the_mac_covers_the_signature() -> None:
    body, signature, code = msgspec.msgpack.decode(encode(packet(), KEY.sign, b"secret"))
    with pytest.raises(Malformed, match="mac"):
        decode(msgspec.msgpack.encode([body, bytes(len(signature)), code]), b"secret")


def test_longer_than_1200_bytes_is_neither_sent_nor_read() -> None:
    with pytest.raises(ValueError, match="LAN packet"):
        encode(packet(models=(MODEL,) * 20), KEY.sign)
    with pytest.raises(Malformed, match="oversized"):
        decode(bytes(MAX_PACKET + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 9},
        {"addresses": (b"123",)},
        {"parts": 1, "part": 1},
        {"models": (msgspec.structs.replace(MODEL, v1=b"short"),)},
        {"models": (msgspec.structs.replace(MODEL, id="a\x1b[2Jb"),)},
        {"models": (msgspec.structs.replace(MODEL, id=""),)},
        {"models": (msgspec.structs.replace(MODEL, size=-1),)},
        {"models": (msgspec.structs.replace(MODEL, sha256=b"s" * 15),)},
        {"wants": (Want(WantKind.TEXT, b""),)},
        {"key": b"k"},
        {"session": b""},
        {"sequence": -1},
        {"nonce": bytes(17)},
    ],
)
def test_fields_out_of_their_limits_are_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(Malformed, match="malformed"):
        decode(encode(packet(**changes), KEY.sign))


def test_another_version_is_told_apart_from_garbage() -> None:
    with pytest.raises(Malformed, match="version"):
        decode(encode(packet(version=3), KEY.sign))
    with pytest.raises(Malformed, match="truncated"):
        decode(b"\x93\xc4\x01")


def test_fields_that_a_later_version_appends_are_ignored() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(packet()))
    body = msgspec.msgpack.encode([*fields, "new field"])
    assert decode(msgspec.msgpack.encode([body, bytes(64), b""])).packet == packet()


def test_many_models_are_shared_out_over_packets_that_all_fit() -> None:
    models = [msgspec.structs.replace(MODEL, id=f"m{i}" + "x" * (i % 190)) for i in range(300)]
    base = packet(addresses=(b"\xfe" * 16,) * 12, parts=65_535)
    shares = split_models(models, base, mac_used=True)
    assert [m for share in shares for m in share] == models
    widest = {"sequence": 2**63 - 1, "round": 2**63 - 1, "time": 2**63 - 1, "part": 65_534}
    for share in shares:
        full = msgspec.structs.replace(base, models=tuple(share), **widest)
        assert len(encode(full, KEY.sign, b"secret")) <= MAX_PACKET


def test_a_padded_query_is_as_long_as_the_longest_answer() -> None:
    query = packet(kind=Kind.QUERY, wants=(Want(WantKind.TEXT, b"llama"),), nonce=bytes(8))
    assert MAX_PACKET - 60 <= len(encode(pad(query, mac_used=False), KEY.sign)) <= MAX_PACKET


def test_addresses_lose_their_scope_and_doubles() -> None:
    assert pack_addresses(["10.0.0.1", "fe80::1%3", "10.0.0.1"]) == (b"\n\0\0\1", b"\xfe\x80" + bytes(13) + b"\1")
