"""Looks at the peers of a fetch several times a second and carries out what `stripes.py` decides."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import anyio.to_thread
import libtorrent as lt
import msgspec

from hali.transfer.giving import FREE, queue_of
from hali.transfer.guard import Guard
from hali.transfer.options import CLIENT
from hali.transfer.ownership import Fellow
from hali.transfer.stripes import ANYTHING, FIRST_S, LARGE, Orders, Stripes, View, before_others

MOST_PIECES = 20_000  # a look at 50 peers with so many takes 10 ms; torrents of ours have 20,000 at 320 GB
ALONE_S = 0.05  # between looks for others

_INFO = lt.peer_info
_UNBORN: int = _INFO.handshake | _INFO.connecting


class Striping:
    """One for each fetch; `handle` is its torrent, None while it is replaced."""

    def __init__(self, me: bytes, guard: Guard) -> None:
        self._me, self._guard = me, guard
        self.handle: lt.torrent_handle | None = None
        self._stripes: Stripes | None = None
        self._fellows: set[bytes] = set()  # peer ids of those who lacked pieces when we met
        self._seeds: set[bytes] = set()  # … and of those who did not
        self._lacking: set[bytes] = set()  # at the last look
        self._alone_since: float | None = None  # when there was the first connection
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Until closed."""
        with self._scope:
            orders = ANYTHING
            while True:
                orders = await self._look(counts=orders.counts)
                self._guard.arrange(orders, anyio.current_time())
                await anyio.sleep(orders.for_s)

    def begin(self) -> None:
        """The torrent is known, and about to ask for pieces."""
        self._guard.arrange(self._before_others(), anyio.current_time())

    def close(self) -> None:
        """The fetch is over."""
        self._scope.cancel()

    async def _look(self, *, counts: bool) -> Orders:
        handle, guard, pieces = self.handle, self._guard, self._guard.pieces
        if handle is None or (pieces or 0) > MOST_PIECES:
            return ANYTHING
        if pieces is None or not guard.has_fellows:
            return msgspec.structs.replace(self._before_others(), for_s=ALONE_S)
        try:
            peers = await anyio.to_thread.run_sync(handle.get_peer_info)
            # Milliseconds for each piece that is begun, so only where it matters.
            queue = await queue_of(handle) if counts else []
        except RuntimeError:  # the torrent was removed meanwhile
            return ANYTHING
        if handle is not self.handle or not guard.has_fellows:
            return ANYTHING
        view, orders = self._view(peers, queue), self._before_others()
        if not orders.is_empty:  # more of them may come
            return orders
        self._stripes = self._stripes or Stripes(self._me, pieces, guard.piece_length)
        return self._stripes.decide(view, anyio.current_time())

    def _before_others(self) -> Orders:
        guard, now = self._guard, anyio.current_time()
        if guard.pieces is None or guard.pieces > MOST_PIECES or guard.piece_length < LARGE or not guard.is_among_nodes:
            return ANYTHING
        if guard.evidence.connected:
            self._alone_since = now if self._alone_since is None else self._alone_since
            if now - self._alone_since > FIRST_S:
                return ANYTHING
        return before_others(self._me, guard.pieces, guard.wanted)

    def _view(self, peers: list[lt.peer_info], queue: list[dict[str, Any]]) -> View:
        there = [peer for peer in peers if not peer.flags & _UNBORN]
        trusted = [peer for peer in there if peer.ip[0] in self._guard.evidence.trusted]
        ids = {peer.pid.to_bytes(): peer for peer in trusted if peer.pid.to_bytes().startswith(CLIENT)}
        lacking = {each for each, peer in ids.items() if not peer.flags & _INFO.seed}
        self._seeds |= ids.keys() - lacking - self._fellows
        # A seed that has just come has not told yet what it has: who lacks something does so at the next look, too.
        self._fellows |= (lacking & self._lacking) - self._seeds
        self._lacking = lacking
        seeds = {p.ip[0] for p in there if p.flags & _INFO.seed and p.pid.to_bytes() not in self._fellows}
        return View(
            tuple(_fellow(each, peer) for each, peer in ids.items() if each in self._fellows),
            frozenset(seeds) | self._guard.put_aside,
            self._guard.wanted,
            sum(peer.payload_down_speed for peer in there),
            sum(peer.payload_down_speed for peer in there if peer.ip[0] in seeds),
            frozenset(piece["piece_index"] for piece in queue),
            frozenset(
                piece["piece_index"] for piece in queue if all(block["state"] != FREE for block in piece["blocks"])
            ),
        )


def _fellow(peer_id: bytes, peer: lt.peer_info) -> Fellow:
    has = frozenset(itertools.compress(itertools.count(), peer.pieces))
    return Fellow(peer_id, peer.ip[0], has, fetching=not peer.flags & (_INFO.seed | _INFO.upload_only))
