"""Who sent wrong bytes, and whom to try next: the part of a hostile swarm's defence that libtorrent lacks.

libtorrent takes trust from every peer that touched a failed piece, so among many attackers it bans the honest one too (measured:
security.md, first fact). When a fetch stands still after bad pieces, its torrent is added anew, bans forgotten, with the trusted
peers and *one* other at a time, all others barred: then a bad piece has one possible sender, and so has a good one.
Pure: `fetching.py` feeds it and carries out its plan. Peers are told apart by IP address.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Trial(msgspec.Struct, frozen=True):
    """Talk to `allowed` only; `candidate` is the one of them nothing is known of (None: only trusted and proven ones are left)."""

    allowed: frozenset[str]
    barred: frozenset[str]
    candidate: str | None


class Evidence:
    """What one fetch knows about its peers' honesty."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self.trusted = frozenset(trusted)
        self.seen: dict[str, None] = {}  # in the order they came
        self.proven: set[str] = set()
        self.guilty: set[str] = set()
        self.failures = 0
        self.trials = 0
        self._tried: set[str] = set()
        self._senders: dict[int, set[str]] = {}
        self._suspicion: dict[str, int] = {}

    def met(self, host: str) -> None:
        """A connection to `host` exists or existed."""
        self.seen.setdefault(host)

    def block(self, piece: int, host: str) -> None:
        """`host` delivered a block of `piece`."""
        self._senders.setdefault(piece, set()).add(host)

    def passed(self, piece: int) -> None:
        """The piece was right: its only sender in a trial is honest so far."""
        senders = self._senders.pop(piece, set())
        if self.trials and len(senders) == 1:
            self.proven |= senders - self.guilty

    def failed(self, piece: int) -> None:
        """The piece was wrong: its only sender in a trial is guilty; otherwise each sender may be."""
        self.failures += 1
        suspects = self._senders.pop(piece, set()) - self.trusted
        if self.trials and len(suspects) == 1 and not suspects <= self.proven:
            self.guilty |= suspects
        for host in suspects:
            self._suspicion[host] = self._suspicion.get(host, 0) + 1

    def next_trial(self) -> Trial | None:
        """The next set of peers, or None when everyone was tried and nobody is left to hope for."""
        self.trials += 1
        self._senders.clear()  # partly filled pieces are thrown away with the old torrent
        known_good = (self.trusted & set(self.seen)) | (self.proven - self.guilty)
        untried = [h for h in self.seen if h not in self._tried | self.guilty | known_good]
        candidate = min(untried, key=lambda h: self._suspicion.get(h, 0), default=None)
        if candidate is None and not known_good:
            return None
        if candidate is not None:
            self._tried.add(candidate)
        allowed = frozenset(known_good | ({candidate} if candidate else set()))
        return Trial(allowed, frozenset(self.seen) - allowed - self.trusted, candidate)
