"""LAN packets, version 2: signed MessagePack of at most 1,200 bytes.

A datagram is the array `[body, signature, mac]`. `body` is a MessagePack array itself (`Packet`), carried as a byte
string: signature (Ed25519) and MAC (HMAC-SHA256, empty when not used) cover those bytes as sent, the MAC the signature
too. New fields may be appended to `Packet` and `Model`; readers ignore what they do not know.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from hali.wire.canonical import MAC, SIGNATURE, mac, mac_is_valid, signature_is_valid, signing_input

VERSION = 2
MAX_PACKET = 1200  # fits one IPv6 minimum-MTU frame (1,280) with all headers: never fragmented
DOMAIN = "hali/lan/2"
PROBE = b"hali/lan/probe"  # how a datagram begins by which `hali doctor` hears itself; no packet, and nobody's concern
MAC_DOMAIN = "hali/lan/2/mac"
MAX_ADDRESSES = 12  # of 17 bytes at most; leaves room for five models with long names
MAX_ID = 200  # bytes of a model id; the longest real one has about 90
MAX_TEXT = 128  # bytes of a text asked for
MAX_WANTS = 8  # each costs the receiver a look at all its models; hali asks for two at most
SHA_PREFIX = 16  # bytes of a SHA-256 that name a file here: 2^64 work to find two alike

T = TypeVar("T")
U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
U63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Kind(enum.IntEnum):
    """What a packet is for."""

    ANNOUNCE = 0
    QUERY = 1
    GOODBYE = 2


class Flag(enum.IntFlag):
    """What a node says about a model; without both it does not have it any more."""

    COMPLETE = 1  # it has the whole file and seeds it
    PARTIAL = 2  # it holds and serves some pieces


class WantKind(enum.IntEnum):
    """How a query names what it looks for."""

    SHA256 = 1  # the first 16 bytes or more
    INFOHASH = 2  # 20 or 32 bytes
    TEXT = 3  # part of a model id, UTF-8, any case
    NODE = 4  # a node id (SHA-256 of its key): that node shall show that it is alive


class Model(msgspec.Struct, array_like=True, frozen=True):
    """One model of a node. 16 + 32 + 20 bytes of hashes, the id, the size and `Flag` bits."""

    sha256: Annotated[bytes, Meta(min_length=SHA_PREFIX, max_length=SHA_PREFIX)]
    v2: Annotated[bytes, Meta(min_length=32, max_length=32)]
    v1: Annotated[bytes, Meta(max_length=20)]  # 20 bytes, or none for v2-only torrents
    id: Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
    size: U63
    flags: U16 = Flag.COMPLETE


class Want(msgspec.Struct, array_like=True, frozen=True):
    """One thing a query looks for."""

    kind: U16
    value: Annotated[bytes, Meta(min_length=1, max_length=MAX_TEXT)]


class Packet(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What is signed. A query without wants asks everybody to announce."""

    version: int = VERSION
    kind: U16
    key: Annotated[bytes, Meta(min_length=32, max_length=32)]  # the node id is its SHA-256
    session: Annotated[bytes, Meta(min_length=16, max_length=16)]  # random at each start
    epoch: U63  # wall-clock milliseconds at the start of the session: orders sessions of an honest clock
    sequence: U63  # grows with each packet of a session
    time: U63  # wall-clock seconds when sent: freshness for those who never heard of us
    nonce: Annotated[bytes, Meta(max_length=16)] = b""  # query: random; announcement: of the query it answers
    port: U16 = 0  # BitTorrent
    addresses: Annotated[tuple[bytes, ...], Meta(max_length=MAX_ADDRESSES)] = ()  # packed, 4 or 16 bytes each
    round: U63 = 0  # all packets of one complete announcement share it …
    part: U16 = 0
    parts: U16 = 0  # … and say how many there are; 0 = not a complete announcement
    models: tuple[Model, ...] = ()
    wants: Annotated[tuple[Want, ...], Meta(max_length=MAX_WANTS)] = ()
    padding: bytes = b""  # a query is as long as the longest answer to it: nobody gets more bytes than he sent
    pages: U16 = 0  # of the answer to a query without wants: `part` is one of so many; a query asks for `part`


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    body: bytes
    signature: Annotated[bytes, Meta(min_length=SIGNATURE, max_length=SIGNATURE)]
    mac: Annotated[bytes, Meta(max_length=MAC)] = b""


_encode = msgspec.msgpack.Encoder().encode
_envelope_of = msgspec.msgpack.Decoder(_Envelope).decode
_packet_of = msgspec.msgpack.Decoder(Packet).decode


class Malformed(ValueError):
    """A datagram that is no packet of this version; `reason` is the name of the drop counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Received(msgspec.Struct, frozen=True):
    """A well-formed datagram whose signature has not been looked at yet."""

    packet: Packet
    body: bytes
    signature: bytes

    @property
    def node_id(self) -> bytes:
        """SHA-256 of the key, 32 bytes."""
        return node_id(self.packet.key)

    def signature_ok(self) -> bool:
        """True if the owner of `packet.key` signed this body."""
        return signature_is_valid(self.packet.key, self.signature, DOMAIN, self.body)


def node_id(key: bytes) -> bytes:
    """The name of the node that owns a raw public key."""
    return hashlib.sha256(key).digest()


def encode(packet: Packet, sign: Callable[[bytes], bytes], secret: bytes | None = None) -> bytes:
    """The datagram of `packet`. ValueError if it is longer than 1,200 bytes."""
    body = _encode(packet)
    signature = sign(signing_input(DOMAIN, body))
    code = b"" if secret is None else mac(secret, MAC_DOMAIN, body + signature)
    datagram = _encode(_Envelope(body, signature, code))
    if len(datagram) > MAX_PACKET:
        raise ValueError(f"a LAN packet of {len(datagram)} bytes")
    return datagram


def decode(datagram: bytes, secret: bytes | None = None) -> Received:
    """Size, then MAC, then shape and limits; nothing expensive. Raises `Malformed`.

    With a secret only packets that carry its MAC are read, without one only those that carry none: the two do not mix.
    """
    if len(datagram) > MAX_PACKET:
        raise Malformed("oversized")
    envelope = _parsed(_envelope_of, datagram)
    if len(envelope.mac) not in (0, MAC):
        raise Malformed("malformed")
    if not _mac_is_right(envelope, secret):
        raise Malformed("mac")
    packet = _parsed(_packet_of, envelope.body)
    if packet.version != VERSION:
        raise Malformed("version")
    if packet.kind > Kind.GOODBYE or not _is_sound(packet):
        raise Malformed("malformed")
    return Received(packet, envelope.body, envelope.signature)


def _parsed(parse: Callable[[bytes], T], data: bytes) -> T:
    try:
        return parse(data)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
        # msgspec has no class of its own for an end that comes too early; a test holds its words.
        raise Malformed("truncated" if "truncated" in str(error) else "malformed") from error


def _mac_is_right(envelope: _Envelope, secret: bytes | None) -> bool:
    if secret is None:
        return not envelope.mac
    return mac_is_valid(secret, envelope.mac, MAC_DOMAIN, envelope.body + envelope.signature)


def _is_sound(packet: Packet) -> bool:
    addresses = all(len(a) in (4, 16) for a in packet.addresses)
    models = all(len(m.v1) in (0, 20) and len(m.id.encode()) <= MAX_ID and m.id.isprintable() for m in packet.models)
    return addresses and models and (packet.parts == 0 or packet.part < packet.parts)


def pack_addresses(addresses: Iterable[str]) -> tuple[bytes, ...]:
    """Packed addresses without scope ids, at most as many as a packet may have."""
    packed = dict.fromkeys(ipaddress.ip_address(a.partition("%")[0]).packed for a in addresses)
    return tuple(packed)[:MAX_ADDRESSES]


def split_models(
    models: Sequence[Model], base: Packet, *, mac_used: bool, limit: int = MAX_PACKET
) -> list[list[Model]]:
    """Shares out `models` so that each share, put into `base`, stays within `limit` bytes. Empty list for no models."""
    room = limit - _overhead(base, mac_used)
    shares: list[list[Model]] = []
    left = 0
    for model in models:
        size = len(_encode(model))
        if size > room:
            continue  # `base` is too full for this one; cannot be with `MAX_PACKET` and valid fields
        if not shares or size > left:
            shares.append([])
            left = room
        shares[-1].append(model)
        left -= size
    return shares


def pad(packet: Packet, *, mac_used: bool, to: int = MAX_PACKET) -> Packet:
    """`packet` with padding, so that its datagram has close to `to` bytes."""
    missing = to - _overhead(packet, mac_used)
    return msgspec.structs.replace(packet, padding=bytes(max(0, missing)))


def _overhead(packet: Packet, mac_used: bool) -> int:
    """Upper bound of the datagram's bytes without further models: counters may still grow to their widest form."""
    code = MAC if mac_used else 0
    widest = 8 * 4 + 2 * 4 + 5 + 5 + 5  # sequence, round, epoch, time; part, parts, pages; three length prefixes
    return len(_encode(packet)) + SIGNATURE + code + 1 + 3 + 2 + 2 + widest
