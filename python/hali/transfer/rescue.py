"""Who sent wrong bytes, and whom to try next: the part of a hostile swarm's defence that libtorrent lacks.

libtorrent takes trust from every peer that touched a failed piece, so among many attackers it bans the honest one too (measured:
security.md, first fact). When a fetch stands still after bad pieces, its torrent is added anew, bans forgotten, with the trusted
peers and *one* other at a time, all others barred: then a bad piece has one possible sender, and so has a good one.
Pure: `fetching.py` feeds it and carries out its plan. Peers are told apart by IP address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

PATIENT_TRIALS = 3  # with nobody new to try: known good peers may have been away, but not three times in a row


class Trial(msgspec.Struct, frozen=True):
    """Talk to `allowed` only; `candidate` is the one of them nothing is known of (None: only trusted and proven ones are left)."""

    allowed: frozenset[str]
    barred: frozenset[str]
    candidate: str | None


class Evidence:
    """What one fetch knows about its peers' honesty. A piece all of whose blocks one peer sent is proof, for or against it."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self.trusted = frozenset(trusted)
        self.seen: dict[str, None] = {}  # in the order they came
        self.proven: set[str] = set()
        self.guilty: set[str] = set()
        self.failures = 0
        self.trials = 0
        self._tried: set[str] = set()
        self._senders: dict[int, Counter[str]] = {}
        self._suspicion: Counter[str] = Counter()
        self._fruitless = 0

    @property
    def honest(self) -> frozenset[str]:
        """Peers to keep: trusted from the start, or proven and never guilty since."""
        return self.trusted | (self.proven - self.guilty)

    def met(self, host: str) -> None:
        """`host` is connected, or was, or somebody named it."""
        self.seen.setdefault(host)

    def sent(self, piece: int, host: str, blocks: int) -> None:
        """`host` delivered `blocks` blocks of `piece`."""
        self._senders.setdefault(piece, Counter())[host] += blocks

    def senders(self, piece: int, blocks: int) -> dict[str, int]:
        """Blocks of `piece` by who sent them; all of them by the only one there ever was. Ask before `passed`."""
        counted = self._senders.get(piece)
        if counted:
            return dict(counted)
        return {next(iter(self.seen)): blocks} if len(self.seen) == 1 else {}

    def passed(self, piece: int, blocks: int) -> None:
        """The piece, of `blocks` blocks, was right."""
        self._fruitless = 0
        if (host := self._only_sender(piece, blocks)) is not None:
            self.proven.add(host)
        self._senders.pop(piece, None)

    def replaced(self, piece: int) -> None:
        """The piece came from elsewhere: it says nothing about those who sent some of it."""
        self._senders.pop(piece, None)

    def failed(self, piece: int, blocks: int) -> str | None:
        """The piece was wrong; returns who is guilty now and was not before."""
        self.failures += 1
        host = self._only_sender(piece, blocks) or self._only_stranger(piece)
        self._suspicion.update(set(self._senders.pop(piece, ())) - self.trusted)
        # A trusted peer's disk may be broken, but to bar it is not for evidence to decide.
        if host is None or host in self.trusted | self.guilty:
            return None
        self.guilty.add(host)
        return host

    def _only_sender(self, piece: int, blocks: int) -> str | None:
        """Who sent all of it; None when several did, or when some blocks came before anybody counted."""
        senders = self._senders.get(piece, Counter())
        return next(iter(senders)) if len(senders) == 1 and senders.total() >= blocks else None

    def _only_stranger(self, piece: int) -> str | None:
        """The one peer that is not trusted, if it may have sent of `piece`: trusted peers check what they serve."""
        strangers = set(self.seen) - self.trusted
        senders = self._senders.get(piece)
        if not self.trusted or len(strangers) != 1 or (senders and not strangers & set(senders)):
            return None
        return strangers.pop()

    def next_trial(self) -> Trial | None:
        """The next set of peers, or None when everyone was tried and nobody is left to hope for."""
        self.trials += 1
        self._senders.clear()  # partly filled pieces are thrown away with the old torrent
        good = self.honest & set(self.seen)
        untried = [h for h in self.seen if h not in self._tried | self.guilty | good]
        candidate = min(untried, key=lambda h: self._suspicion[h], default=None)
        if candidate is not None:
            self._tried.add(candidate)
        else:
            self._fruitless += 1
            if not good or self._fruitless > PATIENT_TRIALS:
                return None
        allowed = good | {candidate} if candidate else good
        return Trial(allowed, frozenset(self.seen) - allowed, candidate)
