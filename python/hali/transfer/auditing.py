"""Holds trials for one fetch: whom to ask, how many at a time, until when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import anyio

from hali.model.errors import ProtocolError
from hali.model.units import MIB
from hali.runtime.log import get_logger
from hali.transfer.host import Host
from hali.transfer.leaf_trial import LeafTrial
from hali.transfer.magnet import Peer
from hali.transfer.metainfo import Metainfo
from hali.transfer.probe import Counted, Verdict
from hali.transfer.version_trial import VersionTrial

log = get_logger(__name__)

PLACES = 64  # peers that are asked at a time; one who holds back the leaves keeps his place until somebody else has told them
PORTS = 2  # of one address that are tried by guess: who dials in comes from a port where nobody may listen
MOST = 2_000  # addresses that are remembered, ten times as many as may be connected
MOST_JUDGED = 32 * MIB  # pieces of v1 torrents: a trial keeps 3.25 of them in memory
UNPRIVILEGED = 1024  # lower ports are not dialled, as libtorrent does not: servers of the system live there
NO_VERDICT = (OSError, TimeoutError, ProtocolError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)
Trial = LeafTrial | VersionTrial


def trial_for(
    torrent: Metainfo, piece: int, counted: Counted, verdict: Verdict, read: Callable[[int], bytes]
) -> Trial | None:
    """How peers of this torrent are judged. None for v1 torrents with huge pieces or several files: nobody sends the padding."""
    if all(file.root is not None for file in torrent.files):
        return LeafTrial(torrent, piece, counted, verdict)
    if torrent.is_single_file and torrent.piece_length <= MOST_JUDGED:
        return VersionTrial(torrent, piece, counted, verdict, partial(read, piece))
    return None


def may_be_dialled(port: int) -> bool:
    """Whether a peer may live at this port; addresses are of those whom libtorrent is told to dial, or that dialled us."""
    return port >= UNPRIVILEGED


class Audit:
    """Asks each peer once. `read` gives the bytes of a piece that failed, as far as they are still there; it may block."""

    def __init__(self, host: Host, counted: Counted, verdict: Verdict, read: Callable[[int], bytes]) -> None:
        self._host, self._counted, self._verdict, self._read = host, counted, verdict, read
        self._trial: Trial | None = None
        self._known: dict[Peer, None] = {}
        self._guesses: Counter[str] = Counter()
        self._asked: set[Peer] = set()
        self._running: dict[Peer, anyio.CancelScope] = {}
        self._places = anyio.CapacityLimiter(PLACES)
        self._exempt: set[str] = set()

    def met(self, peers: Iterable[Peer], *, guess: bool = False) -> None:
        """Where peers may be reached; a `guess` is the other end of a connection that they may have made."""
        for peer in peers:
            host, port = peer
            if peer in self._known or not may_be_dialled(port) or len(self._known) >= MOST:
                continue
            if guess and self._guesses[host] >= PORTS:
                continue
            self._guesses[host] += guess
            self._known[peer] = None
        self._ask()

    def judged(self, host: str) -> None:
        """There is nothing to find out about this address any more."""
        self._exempt.add(host)

    def begin(self, torrent: Metainfo, piece: int) -> bool:
        """Ask all of whom nothing is known, and whoever is met later; False if nobody can be judged."""
        # One that is under way goes on with its piece: what was fetched of it is not fetched twice.
        self._trial = self._trial or trial_for(torrent, piece, self._counted, self._verdict, self._read)
        if self._trial is None:
            return False
        self._asked = set(self._running)
        self._ask()
        return True

    @property
    def is_asking(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._running)

    def close(self) -> None:
        """Ask nobody any more."""
        self._trial = None
        for scope in self._running.values():
            scope.cancel()

    def _ask(self) -> None:
        if self._trial is None:
            return
        for peer in [peer for peer in self._known if peer not in self._asked and peer[0] not in self._exempt]:
            self._asked.add(peer)
            self._running[peer] = anyio.CancelScope()
            self._host.spawn(partial(self._question, self._trial, peer))

    async def _question(self, trial: Trial, peer: Peer) -> None:
        try:
            with self._running[peer]:
                async with self._places:
                    with anyio.fail_after(trial.patience_s):
                        await trial.ask(peer)
        except NO_VERDICT as exc:
            log.info("audit.no_verdict", peer=f"{peer[0]}:{peer[1]}", reason=str(exc) or type(exc).__name__)
        finally:
            del self._running[peer]
