"""A trial of peers of a v1 torrent, which has a hash of the whole piece only: find whose version of the piece that hash is of.

A few bytes of each block, at places that nobody can foresee, tell the versions of it apart. Each version is fetched once, from
whoever is first to have it, if it is not in the piece that failed; a peer's piece is put together of the versions that it has. Once
a piece fits, all peers are judged.
Blocks that differ in a few bytes are taken for one: who alters so little may pass here, and is found by its pieces.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping

import anyio
import anyio.to_thread

from hali.model.errors import ProtocolError
from hali.model.units import BLOCK, MIB, piece_count, piece_span
from hali.transfer.magnet import Peer
from hali.transfer.metainfo import Metainfo
from hali.transfer.probe import Counted, Probe, Span, Verdict

MARK = 16  # bytes of a block; a block of other bytes has the same ones once in 2**128, one that differs in a few mostly has
PIECES = 2.25  # that may be fetched: liars that agree have two versions; with more a trial costs more than it saves
SLACK = 2 * MIB  # for marks with their requests, a bitfield, and the little that nobody asked for
MARKS_AT_ONCE = 256  # they are small, and a round trip is not
BLOCKS_AT_ONCE = 64  # 1 MiB: 20 MB/s at 50 ms a round trip
TURN_S = 10.0  # for one peer to send what is missing of its piece
Marks = tuple[bytes, ...]  # of each block
Versions = Mapping[tuple[int, bytes], bytes | memoryview]  # by number and mark of a block: all of it


class VersionTrial:
    """Over one piece of `torrent`."""

    patience_s = 30.0  # turns are waited for

    def __init__(
        self, torrent: Metainfo, piece: int, counted: Counted, verdict: Verdict, failed: Callable[[], bytes]
    ) -> None:
        """`failed` reads the piece as it failed, or anything else where that is gone; it may block."""
        self._size = piece_span(piece, torrent.length, torrent.piece_length)[1]
        self._torrent, self._piece = torrent, piece
        self._hash = torrent.sha1_pieces[20 * piece : 20 * piece + 20]
        self._counted, self._verdict = counted, verdict
        self._places = [begin + random.SystemRandom().randrange(max(1, n - MARK)) for begin, n in spans_of(self._size)]
        self._versions: dict[tuple[int, bytes], bytes] = {}
        self._read = failed
        self._wrong: Marks | None = None  # of the piece that failed
        self._at_hand: Versions = {}  # its blocks
        self._left = int(PIECES * piece_count(self._size, BLOCK))
        self._marks: dict[str, Marks] = {}
        self._right: Marks | None = None
        self._turn = anyio.Lock()

    async def ask(self, peer: Peer) -> None:
        """Question one peer. No verdict, but an error or none, as long as nobody's piece is right."""
        async with Probe.open(
            peer, self._torrent.infohashes, self._piece, self._counted, most=self._size + SLACK
        ) as probe:
            marks = await self._marks_of(probe)
            async with self._turn:
                await self._hear(peer[0], probe, marks)

    async def _hear(self, host: str, probe: Probe, marks: Marks) -> None:
        if self._wrong is None:
            self._look(await anyio.to_thread.run_sync(self._read))
        if self._right is None and marks != self._wrong:
            with anyio.fail_after(TURN_S):
                is_consistent = await self._try(probe, marks)
            if not is_consistent:  # one of the two was wrong
                self._verdict(host, False)
                return
        self._marks[host] = marks
        self._judge()

    def _look(self, data: bytes) -> None:
        """The piece that failed holds a version of each block: where liars agree, theirs."""
        self._wrong = ()
        if len(data) == self._size:
            view = memoryview(data)
            self._wrong = tuple(data[place : place + MARK] for place in self._places)
            blocks = [view[begin : begin + size] for begin, size in spans_of(self._size)]
            self._at_hand = dict(zip(enumerate(self._wrong), blocks, strict=True))

    async def _try(self, probe: Probe, marks: Marks) -> bool:
        """Fetch what nobody had so of its piece, and see whether that fits; False when a block is another one than the peer's own mark."""
        # A block at hand may be wrong in a few bytes, though not at its mark: then it is fetched after all.
        for at_hand in (self._at_hand, {}):
            if not await self._complete(probe, marks, at_hand):
                return False
            if await anyio.to_thread.run_sync(self._fits, marks, at_hand):
                self._right = marks
                self._versions.clear()
                self._at_hand = {}
                break
            if not at_hand.keys() & set(enumerate(marks)):
                break
        return True

    async def _marks_of(self, probe: Probe) -> Marks:
        spans = [(place, min(MARK, self._size - place)) for place in self._places]
        found = {place: data async for place, data in probe.blocks(spans, at_once=MARKS_AT_ONCE)}
        return tuple(found[place] for place in self._places)

    async def _complete(self, probe: Probe, marks: Marks, at_hand: Versions) -> bool:
        """Fetch what nobody before had so; False when a block is another one than the peer's own mark of it."""
        known = self._versions.keys() | at_hand.keys()
        missing = [
            span for span, version in zip(spans_of(self._size), enumerate(marks), strict=True) if version not in known
        ]
        if len(missing) > self._left:
            raise ProtocolError("peers have too many versions of a piece")
        async for begin, data in probe.blocks(missing, at_once=BLOCKS_AT_ONCE):
            block = begin // BLOCK
            place = self._places[block] - begin
            if data[place : place + MARK] != marks[block]:
                return False
            self._left -= 1
            self._versions[block, marks[block]] = data
        return True

    def _fits(self, marks: Marks, at_hand: Versions) -> bool:
        digest = hashlib.sha1(usedforsecurity=False)
        for version in enumerate(marks):
            digest.update(self._versions[version] if version in self._versions else at_hand[version])
        return digest.digest() == self._hash

    def _judge(self) -> None:
        if self._right is None:
            return
        judged, self._marks = self._marks, {}
        for host, marks in judged.items():
            self._verdict(host, marks == self._right)


def spans_of(size: int) -> list[Span]:
    """The blocks of a piece."""
    return [(begin, min(BLOCK, size - begin)) for begin in range(0, size, BLOCK)]
