"""A connection of our own to one peer, to ask for chosen bytes of one piece: libtorrent's picker takes no such wish."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from hali.model.errors import ProtocolError
from hali.model.ids import InfoHashes
from hali.model.units import MIB
from hali.transfer.magnet import Peer
from hali.wire import bittorrent as wire

CONNECT_S = 3.0  # an address that does not answer by then is not worth the wait: others are asked meanwhile
AT_ONCE = 8  # blocks on their way: 1 MiB takes 0.4 s at 50 ms a round trip, and no more come after a wrong one
MOST = 5 * MIB  # bytes of one peer: a sample of 3 MiB, leaves, a bitfield, and the little that nobody asked for
Counted = Callable[[int], None]  # told of bytes that came
Verdict = Callable[[str, bool], None]  # address, whether all that it sent was right
Span = tuple[int, int]  # begin in the piece, length


class Probe:
    """One conversation; what goes wrong in it is ProtocolError, OSError, or a stream's end."""

    def __init__(self, stream: anyio.abc.SocketStream, piece: int, counted: Counted, most: int) -> None:
        self._stream, self._reader = stream, BufferedByteReceiveStream(stream)
        self._piece, self._counted, self._left = piece, counted, most

    @classmethod
    @asynccontextmanager
    async def open(
        cls, peer: Peer, infohashes: InfoHashes, piece: int, counted: Counted, *, most: int = MOST
    ) -> AsyncIterator[Self]:
        """To a peer that has the piece and lets us ask for it. `counted` is told the bytes that come, `most` in all."""
        with anyio.fail_after(CONNECT_S):
            stream = await anyio.connect_tcp(*peer)
        async with stream:
            probe = cls(stream, piece, counted, most)
            await probe._greet(infohashes)
            yield probe

    async def _greet(self, infohashes: InfoHashes) -> None:
        names = [bytes.fromhex(name)[:20] for name in (infohashes.v1, infohashes.v2) if name is not None]
        # Not our `CLIENT`: who only asks takes no share of the pieces (striping.py).
        ours = wire.handshake(names[0], b"-HP0100-" + os.urandom(12), v2=infohashes.v2 is not None)
        await self._stream.send(ours)
        if not wire.agrees(await self._read(wire.HANDSHAKE), names):
            raise ProtocolError("the peer has another torrent")
        await self._stream.send(wire.message(wire.INTERESTED))
        owns = open_ = False
        while not (owns and open_):
            kind, body = await self._next()
            owns |= kind == wire.BITFIELD and wire.has(body, self._piece)
            owns |= kind == wire.HAVE and body == self._piece.to_bytes(4, "big")
            open_ = kind == wire.UNCHOKE or (open_ and kind != wire.CHOKE)

    async def blocks(self, spans: Iterable[Span], *, at_once: int = AT_ONCE) -> AsyncIterator[tuple[int, bytes]]:
        """(begin, bytes) of each span, in the order in which they come; `at_once` of them are asked for at a time."""
        left, asked = list(reversed(list(spans))), dict[int, int]()
        while left or asked:
            if left and len(asked) <= at_once // 2:  # many requests in one packet
                wanted = [left.pop() for _ in range(min(len(left), at_once - len(asked)))]
                asked |= dict(wanted)
                await self._stream.send(b"".join(wire.request(self._piece, *span) for span in wanted))
            answer = await self._block()
            if answer is None:  # what was asked for is forgotten (BEP 3)
                left += asked.items()
                asked.clear()
                continue
            begin, data = answer
            if asked.pop(begin, None) != len(data):
                raise ProtocolError("the peer sends bytes that nobody asked it for")
            yield begin, data

    async def _block(self) -> tuple[int, bytes] | None:
        """The next one; None when the peer stopped giving and goes on now, as uploaders do who take turns."""
        choked = False
        while True:
            kind, body = await self._next()
            choked |= kind == wire.CHOKE
            if kind == wire.UNCHOKE and choked:
                return None
            if kind == wire.PIECE:
                piece, begin, data = wire.block_of(body)
                return (begin if piece == self._piece else -1), data

    async def hashes(self, wanted: wire.HashRequest) -> list[bytes]:
        """What it answers; none when it refuses."""
        await self._stream.send(wire.message(wire.HASH_REQUEST, wanted.encode()))
        while True:
            kind, body = await self._next()
            if kind == wire.HASH_REJECT and body == wanted.encode():
                return []
            if kind == wire.HASHES and (found := wire.hashes_of(body, wanted)) is not None:
                return list(found)

    async def _next(self) -> tuple[int, bytes]:
        """The next message; -1 for the empty one that keeps a connection alive."""
        length = wire.length_of(await self._read(4))
        body = await self._read(length) if length else b""
        return (body[0], body[1:]) if body else (-1, b"")

    async def _read(self, count: int) -> bytes:
        if count > self._left:
            raise ProtocolError("the peer sends much that nobody asked it for")
        data = await self._reader.receive_exactly(count)
        self._left -= count
        self._counted(count)
        return data
