"""A trial of peers by BEP 52: each is asked for blocks of a piece that failed, and one that is not a leaf of the file proves a liar."""

from __future__ import annotations

import random

import anyio

from hali.model.errors import ProtocolError
from hali.model.units import BLOCK, piece_count, piece_span
from hali.transfer.magnet import Peer
from hali.transfer.metainfo import Metainfo
from hali.transfer.probe import Counted, Probe, Span, Verdict
from hali.wire import merkle

FIRST = 64  # blocks, 1 MiB, of each peer; of liars that corrupt 5 % of theirs, one in 27 gets that far …
SAMPLE = 192  # … and with this many, of a few peers at a time, one in 19,000: it is from these that all else is fetched
FINALISTS = 4


class LeafTrial:
    """Over one piece of `torrent`. The leaves come from whoever has them, and are believed as they lead to the file's root."""

    patience_s = 10.0  # for one peer's answers, 3 MiB at most; who is slower gets no verdict

    def __init__(self, torrent: Metainfo, piece: int, counted: Counted, verdict: Verdict) -> None:
        file, self._local = torrent.map.locate(piece)
        self._torrent, self._piece, self._file = torrent, piece, torrent.files[file]
        self._counted, self._verdict = counted, verdict
        self._leaves: list[bytes] = []
        self._known = anyio.Event()
        self._finals = anyio.CapacityLimiter(FINALISTS)

    async def ask(self, peer: Peer) -> None:
        """Question one peer. No verdict, but an error or none, when it says too little; waits for somebody who has the leaves."""
        spans = sample(piece_span(self._local, self._file.length, self._torrent.piece_length)[1])
        async with Probe.open(peer, self._torrent.infohashes, self._piece, self._counted) as probe:
            async for begin, data in probe.blocks(spans[:1]):
                first = begin, merkle.leaf(data)
            await self._learn(probe)
            await self._known.wait()
            right = self._is_leaf(*first) and await self._all_right(probe, spans[1:FIRST])
            if right:
                async with self._finals:
                    right = await self._all_right(probe, spans[FIRST:])
        self._verdict(peer[0], right)

    async def _learn(self, probe: Probe) -> None:
        """libtorrent knows the leaves of a piece once it was asked for a block of it."""
        if self._known.is_set():
            return
        root, length = self._file.root, self._file.length
        if root is None:
            raise ProtocolError("a v1 torrent has no leaves")
        wanted = merkle.leaves_wanted(root, length, self._torrent.piece_length, self._local)
        leaves = merkle.proven(wanted, length, await probe.hashes(wanted))
        if leaves is not None:
            self._leaves = leaves
            self._known.set()

    async def _all_right(self, probe: Probe, spans: list[Span]) -> bool:
        async for begin, data in probe.blocks(spans):
            if not self._is_leaf(begin, merkle.leaf(data)):
                return False
        return True

    def _is_leaf(self, begin: int, digest: bytes) -> bool:
        return self._leaves[begin // BLOCK] == digest


def sample(size: int) -> list[Span]:
    """Blocks of a piece of `size` bytes, `SAMPLE` of them or all, in an order that nobody can foresee."""
    count = piece_count(size, BLOCK)
    blocks = random.SystemRandom().sample(range(count), min(SAMPLE, count))
    return [(block * BLOCK, min(BLOCK, size - block * BLOCK)) for block in blocks]
