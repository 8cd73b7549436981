"""A BitTorrent peer (BEP 3, plaintext, v1) that claims to have everything and answers with wrong bytes.

It dials in, from an address of its own in 127.0.0.0/8, and again after each time it is thrown out, as an attacker would.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable

CHOKE, UNCHOKE, INTERESTED, BITFIELD, REQUEST, PIECE = 0, 1, 2, 5, 6, 7
REDIAL_S = 0.2

Corrupt = Callable[[int, int], bool]


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
    ) -> None:
        self.address = address
        self.served = 0  # blocks sent
        self.connections = 0
        self._infohash = bytes.fromhex(infohash)
        self._content, self._piece_length = content, piece_length
        self._corrupt, self._redial = corrupt, redial

    async def attack(self, host: str, port: int) -> None:
        """Connect and serve until cancelled (or, without `redial`, until thrown out once)."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._once(host, port)
            if not self._redial:
                return
            await asyncio.sleep(REDIAL_S)

    async def _once(self, host: str, port: int) -> None:
        reader, writer = await asyncio.open_connection(host, port, local_addr=(self.address, 0))
        try:
            peer_id = b"-XX0001-" + self.address.encode().rjust(12, b".")[-12:]
            writer.write(b"\x13BitTorrent protocol" + bytes(8) + self._infohash + peer_id)
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
        if message[0] == INTERESTED:
            self._send(writer, UNCHOKE)
        elif message[0] == REQUEST:
            piece, begin, length = struct.unpack(">III", message[1:13])
            self._send(writer, PIECE, message[1:9] + self._block(piece, begin, length))
            self.served += 1
            await writer.drain()

    def _block(self, piece: int, begin: int, length: int) -> bytes:
        offset = piece * self._piece_length + begin
        block = self._content[offset : offset + length]
        return bytes(255 - b for b in block) if self._corrupt(piece, begin) else block

    def _bitfield(self) -> bytes:
        pieces = -(-len(self._content) // self._piece_length)
        bits = ((1 << pieces) - 1) << (-pieces % 8)
        return bits.to_bytes(-(-pieces // 8), "big")

    @staticmethod
    def _send(writer: asyncio.StreamWriter, kind: int, payload: bytes = b"") -> None:
        writer.write(struct.pack(">IB", 1 + len(payload), kind) + payload)
