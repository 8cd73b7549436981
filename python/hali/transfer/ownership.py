"""Which of several nodes that fetch one torrent at once takes which piece from the seeds. Pure.

Nobody has to agree on anything: everyone works the owners out of the peer ids that it sees, and of what each has.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping
from functools import lru_cache

import msgspec

SLOW = 3  # who got so many times fewer pieces than another has none of its own, until that is no longer so; looked at …
SLOW_PIECES = 16  # … whenever one has got so many, or half of all …
SLOW_LEAST = 6  # … that are so many: of the first few chance decides
FIRST = 8  # a node that may not know all others yet asks for so few pieces, the most likely of its own, …
FIRST_SHARE = 8  # … and for no larger part of all
MOST_DRAWN = 100_000  # hashes for one set of owners, a tenth of a second; of larger torrents runs of pieces are owned


class Fellow(msgspec.Struct, frozen=True):
    """Another node that fetches this torrent, or did when we first met: by its peer id. `fetching`: it may take pieces of seeds."""

    id: bytes
    host: str
    has: frozenset[int]
    fetching: bool = True


def owners(pieces: int, members: Collection[bytes]) -> list[bytes]:
    """The owner of each piece: as a rule the member whose hash with it is highest, so that few pieces move when members change.

    No member gets more than one run of pieces more than another (rendezvous hashing with bounded loads).
    """
    run = max(1, -(-pieces * len(members) // MOST_DRAWN))
    runs = -(-pieces // run)
    fair, extra = divmod(runs, len(members))
    load = dict.fromkeys(members, 0)
    found: list[bytes] = []
    for index in range(runs):
        for member in sorted(members, key=lambda m: _draw(m, index), reverse=True):
            if load[member] < fair or (load[member] == fair and extra > 0):
                break
        extra -= load[member] == fair
        load[member] += 1
        found.append(member)
    return [found[index // run] for index in range(pieces)]


@lru_cache(maxsize=16)
def most_likely(me: bytes, pieces: int) -> list[int]:
    """The few of `pieces` that others would most likely leave to `me`, most likely first."""
    few = max(2, min(FIRST, pieces // FIRST_SHARE))
    return sorted(range(pieces), key=lambda index: _draw(me, index), reverse=True)[:few]


def _draw(member: bytes, index: int) -> bytes:
    return hashlib.blake2b(member + struct.pack(">I", index), digest_size=8).digest()


class Ownership:
    """Who owns each of `pieces` pieces, as far as the node with peer id `me` sees: those who fetch, but for slow and passed over ones."""

    def __init__(self, me: bytes, pieces: int) -> None:
        self._me, self._pieces = me, pieces
        self.members = frozenset[bytes]()
        self._owners: list[bytes] = []
        self._slow = frozenset[bytes]()
        self._had: dict[bytes, int] = {}  # how many pieces each had when that was looked at
        self._passed: dict[bytes, int] = {}  # who is passed over, and how many pieces it had then

    def see(self, fellows: Collection[Fellow], missing: Collection[int]) -> None:
        """Work the owners out anew, where those who are to be have changed. `missing`: what we lack."""
        self._passed = {f.id: self._passed[f.id] for f in fellows if len(f.has) <= self._passed.get(f.id, -1)}
        has = {f.id: len(f.has) for f in fellows if f.fetching and f.id not in self._passed}
        has[self._me] = self._pieces - len(missing)
        members = has.keys() - self._slow_ones(has) or {self._me}
        if members != self.members:
            self.members, self._owners = frozenset(members), owners(self._pieces, sorted(members))

    def pass_over(self, fellows: Collection[Fellow]) -> None:
        """These own nothing from the next look on, until they have got a piece."""
        self._passed |= {fellow.id: len(fellow.has) for fellow in fellows}

    def ours(self, pieces: Collection[int]) -> frozenset[int]:
        """Those of `pieces` that are for us to take from the seeds."""
        return frozenset(i for i in pieces if self._owners[i] == self._me)

    def of(self, pieces: Collection[int]) -> set[bytes]:
        """Whose they are."""
        return {self._owners[i] for i in pieces}

    def _slow_ones(self, has: Mapping[bytes, int]) -> frozenset[bytes]:
        """Those for whose pieces all others would wait. They see it too, and get everything from others."""
        got = {member: has[member] - had for member, had in self._had.items() if member in has}
        most = max(got.values(), default=0)
        if not got or most >= min(SLOW_PIECES, max(SLOW_LEAST, self._pieces // 2)):
            self._slow = frozenset(member for member, count in got.items() if SLOW * count < most)
            self._had = dict(has)
        return self._slow
