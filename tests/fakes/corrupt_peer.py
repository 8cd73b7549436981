"""A BitTorrent peer (BEP 3 and 52, plaintext) that claims to have everything and answers with wrong bytes.

It dials in, from an address of its own in 127.0.0.0/8, and again after each time it is thrown out, as an attacker would; or it
listens there and is dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import Callable
from enum import Enum

from hali.model.units import BLOCK
from tests.fakes.torrents import Sample

CHOKE, UNCHOKE, INTERESTED, BITFIELD, REQUEST, PIECE = 0, 1, 2, 5, 6, 7
HASH_REQUEST, HASHES, HASH_REJECT = 21, 22, 23
V2 = bytes([0, 0, 0, 0, 0, 0, 0, 0x10])  # reserved bits: "I speak BEP 52", so hashes may be asked for
REDIAL_S = 0.2
INVERTED = bytes(
    255 - b for b in range(256)
)  # the same wrong bytes from everyone: attackers that agree with each other

Corrupt = Callable[[int, int], bool]


class Manner(Enum):
    """What the peer does besides lying."""

    SERVES = "serves"
    CHOKES = "chokes"  # has all, gives nothing
    STALLS = "stalls"  # takes requests and never answers
    DRIPS = "drips"  # a block a second: alive but useless


class Hashes(Enum):
    """How a request for v2 hashes is answered."""

    REJECT = "reject"
    WRONG = "wrong"
    SILENCE = "silence"


def fraction(share: float, seed: int) -> Corrupt:
    """The given share of blocks, always the same ones for one seed."""
    return lambda piece, begin: random.Random(f"{seed}/{piece}/{begin}").random() < share


class CorruptPeer:
    """Serves `content`, with the blocks for which `corrupt(piece, begin)` holds inverted; all of them by default."""

    def __init__(
        self,
        infohash: str,
        content: bytes,
        piece_length: int,
        *,
        address: str = "127.0.0.66",
        corrupt: Corrupt = lambda _piece, _begin: True,
        redial: bool = True,
        manner: Manner = Manner.SERVES,
        hashes: Hashes = Hashes.REJECT,
    ) -> None:
        self.address = address
        self.served = 0  # blocks sent
        self.connections = 0
        self._reserved = V2 if len(infohash) == 64 else bytes(8)
        self._infohash = bytes.fromhex(infohash)[:20]  # BEP 52 cuts the v2 hash to 20 bytes in the handshake
        self._content, self._piece_length = content, piece_length
        self._corrupt, self._redial = corrupt, redial
        self._manner, self._hashes = manner, hashes

    async def attack(self, host: str, port: int) -> None:
        """Connect and serve until cancelled (or, without `redial`, until thrown out once)."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._converse(*await asyncio.open_connection(host, port, local_addr=(self.address, 0)))
            if not self._redial:
                return
            await asyncio.sleep(REDIAL_S)

    async def listen(self) -> asyncio.Server:
        """Wait to be dialled, on any port of `address`."""
        return await asyncio.start_server(self._dialled, self.address, 0)

    async def _dialled(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._converse(reader, writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer_id = b"-XX0001-" + self.address.encode().rjust(12, b".")[-12:]
            writer.write(b"\x13BitTorrent protocol" + self._reserved + self._infohash + peer_id)
            await reader.readexactly(68)
            self.connections += 1
            self._send(writer, BITFIELD, self._bitfield())
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                if length:
                    await self._answer(writer, await reader.readexactly(length))
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        if message[0] == INTERESTED and self._manner is not Manner.CHOKES:
            self._send(writer, UNCHOKE)
        elif message[0] == REQUEST and self._manner is not Manner.STALLS:
            piece, begin, length = struct.unpack(">III", message[1:13])
            if self._manner is Manner.DRIPS:
                await asyncio.sleep(1.0)
            self._send(writer, PIECE, message[1:9] + self._block(piece, begin, length))
            self.served += 1
            await writer.drain()
        elif message[0] == HASH_REQUEST and self._hashes is not Hashes.SILENCE:
            self._send_hashes(writer, message[1:49])

    def _send_hashes(self, writer: asyncio.StreamWriter, wanted: bytes) -> None:
        if self._hashes is Hashes.REJECT:
            self._send(writer, HASH_REJECT, wanted)
            return
        _, _, count, proofs = struct.unpack(">IIII", wanted[32:])
        self._send(writer, HASHES, wanted + bytes(32) * (count + proofs))

    def _block(self, piece: int, begin: int, length: int) -> bytes:
        offset = piece * self._piece_length + begin
        block = self._content[offset : offset + length]
        return block.translate(INVERTED) if self._corrupt(piece, begin - begin % BLOCK) else block

    def _bitfield(self) -> bytes:
        pieces = -(-len(self._content) // self._piece_length)
        bits = ((1 << pieces) - 1) << (-pieces % 8)
        return bits.to_bytes(-(-pieces // 8), "big")

    @staticmethod
    def _send(writer: asyncio.StreamWriter, kind: int, payload: bytes = b"") -> None:
        writer.write(struct.pack(">IB", 1 + len(payload), kind) + payload)


def attackers(
    sample: Sample,
    count: int,
    *,
    share: float = 1.0,
    manner: Manner = Manner.SERVES,
    hashes: Hashes = Hashes.REJECT,
) -> list[CorruptPeer]:
    """So many, each at an address of its own, who lie with a share of their blocks."""
    infohashes = sample.metainfo.infohashes
    return [
        CorruptPeer(
            infohashes.v1 or infohashes.v2 or "",
            sample.content,
            sample.metainfo.piece_length,
            address=f"127.0.66.{i + 1}",
            corrupt=fraction(share, i),
            manner=manner,
            hashes=hashes,
        )
        for i in range(count)
    ]
