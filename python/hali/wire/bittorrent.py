"""The few messages by which we ask a BitTorrent peer ourselves for chosen blocks and for BEP 52 hashes. BEP 3, 52; pure."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

import msgspec

from hali.model.errors import ProtocolError
from hali.model.units import BLOCK

HEADER = b"\x13BitTorrent protocol"
V1, V2 = bytes(8), bytes([0, 0, 0, 0, 0, 0, 0, 0x10])  # reserved bits; V2: hashes may be asked for
HANDSHAKE = 68  # bytes
CHOKE, UNCHOKE, INTERESTED, HAVE, BITFIELD, REQUEST, PIECE = 0, 1, 2, 4, 5, 6, 7
HASH_REQUEST, HASHES, HASH_REJECT = 21, 22, 23
# The longest that we have a use for: the leaves of a piece of 128 MiB, or a bitfield of two million pieces.
MAX_MESSAGE = 512 * 1024


class HashRequest(msgspec.Struct, frozen=True):
    """Hashes `index` … of the layer `base` (0: blocks) of a file's tree, and the uncles on the way up `proofs` layers."""

    root: bytes
    index: int
    count: int
    proofs: int
    base: int = 0

    def encode(self) -> bytes:
        """The body of the request, and the beginning of each answer."""
        return self.root + struct.pack(">IIII", self.base, self.index, self.count, self.proofs)


def handshake(infohash: bytes, peer_id: bytes, *, v2: bool) -> bytes:
    """`infohash`: 20 bytes, of v1 or the beginning of v2's. `v2`: the torrent is one; libtorrent hangs up on who errs in that."""
    return HEADER + (V2 if v2 else V1) + infohash + peer_id


def agrees(handshake: bytes, infohashes: Collection[bytes]) -> bool:
    """Whether the other side's handshake is of this torrent; BEP 52: a hybrid's v1 hash may be answered by its v2 hash."""
    return handshake.startswith(HEADER) and handshake[28:48] in infohashes


def message(kind: int, body: bytes = b"") -> bytes:
    """With its length before it."""
    return struct.pack(">IB", 1 + len(body), kind) + body


def length_of(prefix: bytes) -> int:
    """How many bytes follow these four; ProtocolError for more than we can want."""
    (length,) = struct.unpack(">I", prefix)
    if length > MAX_MESSAGE:
        raise ProtocolError(f"a peer sends a message of {length} bytes")
    return int(length)


def request(piece: int, begin: int, length: int) -> bytes:
    """The message that asks for `length` bytes, a block at most."""
    return message(REQUEST, struct.pack(">III", piece, begin, length))


def block_of(body: bytes) -> tuple[int, int, bytes]:
    """(piece, begin, bytes) of a piece message; ProtocolError."""
    if not 8 <= len(body) <= 8 + BLOCK:
        raise ProtocolError(f"a peer sends a block of {len(body) - 8} bytes")
    piece, begin = struct.unpack(">II", body[:8])
    return piece, begin, body[8:]


def has(bitfield: bytes, piece: int) -> bool:
    """Whether a peer with this bitfield has the piece."""
    return piece // 8 < len(bitfield) and bool(bitfield[piece // 8] >> (7 - piece % 8) & 1)


def hashes_of(body: bytes, asked: HashRequest) -> Sequence[bytes] | None:
    """The hashes of an answer, the wanted ones first, then the uncles from below; None: it answers another request."""
    begin = asked.encode()
    if not body.startswith(begin) or (len(body) - len(begin)) % 32:
        return None
    return [body[at : at + 32] for at in range(len(begin), len(body), 32)]
