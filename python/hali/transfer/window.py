"""Which pieces libtorrent may ask for: few while strangers have to be told apart, all when there is nobody to fear. Pure.

A piece that failed puts all who touched it "on parole" in libtorrent: each of them then asks only for pieces that it alone sends.
So with few pieces open a bad piece has one sender, nobody has to be disconnected to find him, and little is wasted.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping

DEFAULT = 4  # libtorrent's priority of a piece of which nothing special is known …
FIRST, NEVER = 7, 0  # … its highest one, and that of what is not asked for
Priorities = dict[int, int]
Touched = Mapping[int, int]  # how many peers have sent of a piece that is not yet right or wrong


class Window:
    """The open ones among `pieces` pieces; all at first. Methods return the priorities to set, all at once."""

    def __init__(self, pieces: int, done: Collection[int]) -> None:
        self._pieces, self._done = pieces, done
        self.left_out: set[int] = set()  # pieces that somebody else fetches
        self._open: set[int] | None = None
        self._closed: list[int] = []  # a heap; may hold pieces that are done or left out by now
        self._levels: dict[int, int] = {}  # other priorities than the default, while all are open
        self._apart = False
        self._spared: set[int] = set()  # pieces of which the ones have sent something that the others are not to spoil

    def restart(self) -> Priorities:
        """What a torrent that was just added has to be told."""
        self._levels.clear()
        self._spared.clear()
        if self._open is None:
            return dict.fromkeys(self.left_out, 0)
        return {i: DEFAULT if i in self._open else 0 for i in range(self._pieces) if i not in self._done}

    def leave_out(self, pieces: Collection[int]) -> Priorities:
        """Somebody else fetches these."""
        self.left_out.update(pieces)
        self._levels = {i: level for i, level in self._levels.items() if i not in self.left_out}
        return dict.fromkeys(pieces, 0)

    def take_back(self, pieces: Collection[int]) -> Priorities:
        """Nobody does any more; in a limited window they wait for their turn."""
        back = [i for i in pieces if i in self.left_out]
        self.left_out.difference_update(back)
        if self._open is None:
            return dict.fromkeys(back, DEFAULT)
        for index in back:
            heapq.heappush(self._closed, index)
        return {}

    @property
    def is_limited(self) -> bool:
        """Whether somebody has to be watched, so that few pieces are open."""
        return self._open is not None

    @property
    def wanted(self) -> frozenset[int]:
        """Pieces that peers shall bring."""
        return frozenset(i for i in range(self._pieces) if self._wanted(i))

    def arrange(self, levels: Mapping[int, int]) -> Priorities:
        """Other priorities than the default for these pieces and no others; nothing changes in a limited window."""
        if self._open is not None:
            return {}
        wanted = {i: level for i, level in levels.items() if self._wanted(i)}
        changed = [i for i in wanted.keys() | self._levels.keys() if wanted.get(i) != self._levels.get(i)]
        self._levels = wanted
        return {i: wanted.get(i, DEFAULT) for i in changed if self._wanted(i)}

    def resize(
        self, limit: int | None, touched: Touched, first: int | None = None, *, apart: bool = False
    ) -> Priorities:
        """Open `limit` pieces (None: all), `first` among them if it is missing, and those that one peer is at; else in order.

        `apart`: others are let in, who get other pieces than those that are open, as long as there are such.
        """
        if limit is None:
            return self._open_all()
        changes = self._limit() if self._open is None else {}
        assert self._open is not None
        self._open = {i for i in self._open if self._wanted(i)}
        if apart != self._apart:
            changes |= self._part(apart)
        if first is not None and self._wanted(first) and first not in self._open | self._spared:
            self._open.add(first)
            changes[first] = DEFAULT
        for index in self._surplus(limit, touched, first):
            changes[index] = 0
        while len(self._open) < limit and (following := self._next()) is not None:
            self._open.add(following)
            changes[following] = DEFAULT
        return changes

    def nudge(self, touched: Touched, failed: int | None = None) -> Iterator[Priorities]:
        """Make idle peers ask again, as only a change of what is wanted does; `failed` is a piece that has just failed."""
        if (owned := next((i for i in self._done if i not in self.left_out), None)) is not None:
            yield {owned: 0}
            yield {owned: DEFAULT}
        elif failed is not None and (other := self._instead_of(failed, touched)) is not None:
            yield {failed: 0, other: DEFAULT}

    def _instead_of(self, failed: int, touched: Touched) -> int | None:
        """Nothing is done yet: open a piece of which nobody sent anything, as a peer on parole takes no other, and close `failed`."""
        if self._open is None or failed not in self._open:
            return None
        fresh = (i for i in sorted(set(self._closed)) if self._wanted(i) and i not in self._open and i not in touched)
        if (other := next(fresh, None)) is not None:
            self._open ^= {failed, other}
            heapq.heappush(self._closed, failed)
        return other

    def _wanted(self, index: int) -> bool:
        return index not in self._done and index not in self.left_out

    def _open_all(self) -> Priorities:
        if self._open is None:
            return {}
        changes = {i: DEFAULT for i in range(self._pieces) if self._wanted(i) and i not in self._open}
        self._open, self._closed = None, []
        self._apart, self._spared = False, set()
        return changes

    def _limit(self) -> Priorities:
        self._levels.clear()
        self._open, self._closed = set(), [i for i in range(self._pieces) if self._wanted(i)]
        return dict.fromkeys(self._closed, 0)

    def _surplus(self, limit: int, touched: Touched, first: int | None) -> list[int]:
        """Close the later ones of too many."""
        assert self._open is not None
        surplus = sorted(self._open, key=lambda i: (touched.get(i) != 1, i != first, i))[limit:]
        self._open.difference_update(surplus)
        for index in surplus:
            heapq.heappush(self._closed, index)
        return surplus

    def _part(self, apart: bool) -> Priorities:
        """Close all: what the ones are at is spared, what the others were at comes again in its turn."""
        assert self._open is not None
        closed, self._open = self._open, set()
        for index in closed:
            heapq.heappush(self._closed, index)
        self._apart, self._spared = apart, set(closed) if apart else set()
        return dict.fromkeys(closed, 0)

    def _next(self) -> int | None:
        """The first closed one that is not spared, else the last of those: of them the least has come."""
        assert self._open is not None
        found, spared = None, list[int]()
        while self._closed and found is None:
            index = heapq.heappop(self._closed)
            if not self._wanted(index) or index in self._open:
                continue
            if index in self._spared:
                spared.append(index)
            else:
                found = index
        if found is None and spared:
            found = spared.pop()
        for index in spared:
            heapq.heappush(self._closed, index)
        return found
