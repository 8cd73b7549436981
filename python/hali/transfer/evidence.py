"""Who sent what, and who is guilty by it: the attribution that libtorrent lacks (security.md, first fact).

libtorrent takes trust from every peer that touched a failed piece and bans an honest one after four of them. Proof is rarer: a bad
piece all of whose blocks one peer sent, or a block that differs from the same block of a good piece. Peers are told apart by IP
address. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

TRUST = 3  # bad pieces that a trusted peer sent alone, before it is one like any other: its disk is broken, or it lies
PROOF = 64  # right blocks, 1 MiB: of liars that corrupt 5 % of their blocks, one in 27 gets that far


class Evidence:
    """What one fetch knows about its peers' honesty."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self.trusted = frozenset(trusted)
        self.seen: dict[str, None] = {}  # in the order they came
        self.connected: Counter[str] = Counter()
        self.proven: set[str] = set()
        self.guilty: set[str] = set()
        self.failures = 0
        self._right: Counter[str] = Counter()  # blocks of pieces that passed
        self._suspected: set[str] = set()
        self._disgraced: set[str] = set()
        self._own: set[str] = set()  # addresses at which we met ourselves, and nobody else so far
        self._let_down: Counter[str] = Counter()  # bad pieces by trusted peers alone
        self._senders: dict[int, Counter[str]] = {}

    # ---- who is there

    def met(self, host: str) -> None:
        """Somebody named `host`."""
        self.seen.setdefault(host)

    def trust(self, hosts: Iterable[str]) -> None:
        """These are known to be honest nodes; not those whose lies were seen."""
        self.trusted |= {h for h in hosts if self._let_down[h] < TRUST and h not in self.guilty | self._suspected}

    def arrived(self, host: str) -> None:
        """A connection to or from `host` exists."""
        self.met(host)
        self.connected[host] += 1

    def left(self, host: str) -> None:
        """It does not any more."""
        self.connected[host] -= 1
        if self.connected[host] <= 0:
            del self.connected[host]

    def met_ourselves(self, host: str) -> None:
        """The connection was to ourselves: other nodes tell libtorrent its own address, and it dials it each second."""
        self._own.add(host)

    def torrent_is_new(self) -> None:
        """libtorrent starts again: without connections, partly filled pieces and distrust."""
        self.connected.clear()
        self._senders.clear()
        self._disgraced.clear()

    # ---- what they did

    def sent(self, piece: int, host: str, blocks: int) -> None:
        """`host` delivered `blocks` blocks of `piece`."""
        self._senders.setdefault(piece, Counter())[host] += blocks
        self._own.discard(host)

    def passed(self, piece: int, blocks: int) -> dict[str, int]:
        """The piece, of `blocks` blocks, was right; returns how many of them came from whom, as far as counted."""
        senders = self._senders.pop(piece, Counter())
        self._right.update(senders)
        self.proven.update(host for host in senders if self._right[host] >= PROOF)
        return dict(senders)

    def replaced(self, piece: int) -> None:
        """The piece came from elsewhere: it says nothing about those who sent some of it."""
        self._senders.pop(piece, None)

    def failed(self, piece: int, blocks: int) -> str | None:
        """The piece was wrong; returns who is guilty now and was not before."""
        self.failures += 1
        host = self._only_sender(piece, blocks) or self._only_stranger(piece)
        if host in self.trusted:
            self._let_down[host] += 1
            if self._let_down[host] >= TRUST:
                self.trusted -= {host}
        self._suspected.update(set(self._senders.pop(piece, ())) - self.trusted)
        return host if host is not None and self._convict(host) else None

    def contradicted(self) -> str | None:
        """Somebody's wrong block made libtorrent stop; returns who is guilty now, if only one can be."""
        self.failures += 1
        suspects = set(self.seen) - self.honest
        host = suspects.pop() if len(suspects) == 1 else None
        return host if host is not None and self._convict(host) else None

    def audited(self, host: str, right: bool) -> bool:
        """`host` was asked for blocks by ourselves: all were right, or one was not. True if somebody is guilty now who was not."""
        if right:
            self.proven.add(host)
        return not right and self._convict(host)

    def disgraced(self, host: str) -> None:
        """libtorrent banned `host` for touching bad pieces, which the honest do too."""
        self._disgraced.add(host)

    def caught(self, host: str) -> bool:
        """libtorrent saw `host` send another block than the right one; True if that is news.

        Whom it has banned before, it turns away with the same words: that proves nothing.
        """
        return host in self._suspected - self._disgraced and self._convict(host)

    def _convict(self, host: str) -> bool:
        # One bad piece may be a disk's, or one of ours that was given blocks before anybody counted.
        if host in self.trusted | self.guilty:
            return False
        self.guilty.add(host)
        return True

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

    # ---- what follows

    @property
    def touched(self) -> dict[int, int]:
        """How many peers have sent of each piece that is under way."""
        return {piece: len(senders) for piece, senders in self._senders.items()}

    @property
    def honest(self) -> frozenset[str]:
        """Trusted from the start, or proven by many right blocks and never guilty since."""
        return self.trusted | (self.proven - self.guilty)

    @property
    def present(self) -> frozenset[str]:
        """Connected and not guilty."""
        return frozenset(self.connected) - self.guilty

    @property
    def strangers(self) -> frozenset[str]:
        """Present, not we, and nothing good is known of them: not proven, no part in a piece that passed without one that failed."""
        return self.present - self.honest - self._own - (frozenset(self._right) - self._suspected)
