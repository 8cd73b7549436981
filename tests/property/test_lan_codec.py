"""LAN packets: whatever is sent comes back, and nothing else is believed."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hali.wire import lan_v1
from hali.wire.lan import MAX_PACKET, Kind, Malformed, Model, Packet, Received, Want, decode, encode, split_models

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SECRET = b"s" * 32
U63 = st.integers(0, 2**63 - 1)
U16 = st.integers(0, 2**16 - 1)


def fixed(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


IDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=60)
MODELS = st.builds(
    Model,
    fixed(16),
    fixed(32),
    st.one_of(st.just(b""), fixed(20)),
    IDS.filter(lambda t: len(t.encode()) <= 200),
    U63,
    U16,
)
WANTS = st.builds(Want, U16, st.binary(min_size=1, max_size=60))
PACKETS = st.builds(
    Packet,
    kind=st.sampled_from(Kind).map(int),
    key=st.just(KEY.public_key().public_bytes_raw()),
    session=fixed(16),
    epoch=U63,
    sequence=U63,
    time=U63,
    nonce=st.binary(max_size=16),
    port=U16,
    addresses=st.lists(st.one_of(fixed(4), fixed(16)), max_size=6).map(tuple),
    round=U63,
    parts=st.just(0),
    pages=U16,
    models=st.lists(MODELS, max_size=2).map(tuple),
    wants=st.lists(WANTS, max_size=2).map(tuple),
    padding=st.binary(max_size=20),
)


@settings(derandomize=True, deadline=None)
@given(PACKETS, st.booleans())
def test_what_is_sent_comes_back_signed(packet: Packet, with_mac: bool) -> None:
    mine, other = (SECRET, None) if with_mac else (None, SECRET)
    datagram = encode(packet, KEY.sign, mine)
    received = decode(datagram, mine)
    assert received.packet == packet
    assert received.signature_ok()
    with pytest.raises(Malformed, match="mac"):
        decode(datagram, other)


@settings(derandomize=True, deadline=None)
@given(PACKETS, st.integers(0), st.integers(0, 7))
def test_one_flipped_bit_is_never_believed(packet: Packet, place: int, bit: int) -> None:
    datagram = bytearray(encode(packet, KEY.sign, SECRET))
    datagram[place % len(datagram)] ^= 1 << bit
    try:
        received = decode(bytes(datagram), SECRET)
    except Malformed:
        return
    assert not received.signature_ok()


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=MAX_PACKET + 10))
def test_any_bytes_are_a_packet_or_malformed(datagram: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert isinstance(decode(datagram), Received)
    with contextlib.suppress(Malformed):
        lan_v1.decode(datagram, secret=None, now=0.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(JSON, fixed(64))
def test_any_messagepack_inside_the_envelope_is_a_packet_or_malformed(body: object, signature: bytes) -> None:
    with contextlib.suppress(Malformed, OverflowError):
        decode(msgspec.msgpack.encode([msgspec.msgpack.encode(body), signature, b""]))


@settings(derandomize=True, deadline=None)
@given(st.lists(MODELS, max_size=60), st.booleans(), PACKETS)
def test_models_are_shared_out_in_order_and_every_packet_fits(
    models: list[Model], with_mac: bool, base: Packet
) -> None:
    empty = msgspec.structs.replace(base, models=(), wants=(), parts=65_535)
    shares = split_models(models, empty, mac_used=with_mac)
    assert [m for share in shares for m in share] == models
    for share in shares:
        packet = msgspec.structs.replace(empty, models=tuple(share))
        assert len(encode(packet, KEY.sign, SECRET if with_mac else None)) <= MAX_PACKET
