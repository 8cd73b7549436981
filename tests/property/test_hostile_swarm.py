"""A simulated swarm: whoever lies and however often, the fetch ends, wastes little, and never loses the honest peer for long.

libtorrent is simulated in what matters here: who touched a bad piece is on parole and then sends pieces alone or not at all; trust is
lost by twos and gained by ones, and gone at -7; who sends a bad piece alone is banned at once; bans end with the torrent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.model.piecemap import PieceMap
from hali.model.units import BLOCK, MIB, PIECE
from hali.transfer.guard import Guard
from hali.transfer.rescue import WASTE, Bars

HONEST = "10.0.0.1"
STEP_S = 0.05
UNDER_WAY = 8 * MIB  # bytes; one piece at least
IN_A_STEP = 2 * MIB  # 40 MB/s: a piece of 16 MiB takes 0.4 s
LOST_S = 5.0  # the promise


class Torrent:
    """The part of `Metainfo` that the guard reads."""

    def __init__(self, pieces: int, piece_length: int) -> None:
        self.pieces, self.piece_length, self.length = pieces, piece_length, pieces * piece_length - BLOCK
        self.map = PieceMap([self.length], piece_length)


class Court:
    """In place of the guard's audit: those that can be dialled are judged within a second, if the swarm lets them be."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self.reachable: set[str] = set()
        self._judged: set[str] = set()
        self._due: dict[str, float] = {}

    def met(self, peers: object, *, guess: bool = False) -> None:
        pass

    def judged(self, host: str) -> None:
        self._judged.add(host)

    def close(self) -> None:
        self._due.clear()

    def begin(self, _torrent: object, _piece: int) -> bool:
        for host in sorted(self.reachable - self._judged - set(self._due)):
            self._due[host] = self._swarm.now + self._swarm.rng.uniform(0.1, 1.0)
        return True

    @property
    def is_asking(self) -> bool:
        return bool(self._due)

    def step(self) -> None:
        for host in [host for host, due in self._due.items() if due < self._swarm.now]:
            del self._due[host]
            self._swarm.guard.judged(host, not self._swarm.lies[host], self._swarm.now)


class Swarm:
    """Host and handle of a guard, and the peers. `lies` is the share of wrong blocks of each."""

    peer_id = b"m" * 20

    def __init__(self, torrent: Torrent, lies: dict[str, float], trusted: tuple[str, ...], rng: random.Random) -> None:
        self.torrent, self.lies, self.rng = torrent, lies, rng
        self.have: set[int] = set()
        self.priorities = dict.fromkeys(range(torrent.pieces), 4)
        self.bars, self.wasted, self.now = Bars(), 0, 0.0
        self.steps = max(1, torrent.piece_length // IN_A_STEP)
        self.at_once = max(1, UNDER_WAY // torrent.piece_length)
        self.guard = Guard(
            self, self, trusted, patient=False, caught=lambda _: None, welcome=lambda _: None, read=lambda _: b""
        )  # type: ignore[arg-type]
        self.court = self.guard._audit = Court(self)  # type: ignore[assignment]
        self.guard.begin(torrent, self.have, self.now)  # type: ignore[arg-type]
        self.restart()

    # what a guard asks of host and handle

    def blame(self, _: object, bars: Bars | None) -> None:
        self.bars = bars or Bars()

    def prioritize_pieces(self, changes: list[tuple[int, int]]) -> None:
        self.priorities |= dict(changes)

    def spawn(self, _: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pass

    def hold(self, _: object, on: bool) -> None:
        pass

    # libtorrent

    def restart(self) -> None:
        self.connected: set[str] = set()
        self.parole: set[str] = set()
        self.banned: set[str] = set()
        self.trust = dict.fromkeys(self.lies, 0)
        self.priorities = dict.fromkeys(range(self.torrent.pieces), 4)
        self.guard.attach(self, self.now)  # type: ignore[arg-type]

    def step(self) -> None:
        """Peers come and go, open pieces are sent, and every half second is a tick."""
        self.now += STEP_S
        out = self.bars.guilty | self.bars.aside | self.banned
        self.connected -= out
        for host in list(self.guard.evidence.connected):
            if host not in self.connected:
                self.guard.left(host, False, self.now)
        for host in sorted(set(self.lies) - self.connected - out):
            if self.rng.random() < 0.2:
                self.connected.add(host)
                self.parole.discard(host)  # it dials in from another port: libtorrent has never seen it
                self.guard.arrived((host, 6881), self.now)
        if round(self.now / STEP_S) % self.steps == 0:
            self.send()
        self.court.step()
        if round(self.now / STEP_S) % 10 == 0:
            self.guard.tick(self.now)
            if self.guard.must_restart(self.now):
                self.restart()

    def send(self) -> None:
        """Peers that are not on parole mix in every open piece; one on parole takes a piece that nobody else is at."""
        open_ = [i for i in range(self.torrent.pieces) if self.priorities[i] and i not in self.have][: self.at_once]
        fresh, alone = sorted(self.connected - self.parole), sorted(self.connected & self.parole)
        self.rng.shuffle(alone)
        for index in open_:
            senders = (
                self.rng.sample(fresh, self.rng.randint(1, len(fresh))) if fresh else [alone.pop()] if alone else []
            )
            if not senders:
                return
            length = min(self.torrent.piece_length, self.torrent.length - index * self.torrent.piece_length)
            wrong = False
            for number in range(-(-length // BLOCK)):
                host = senders[number % len(senders)]
                wrong |= self.rng.random() < self.lies[host]
                self.guard.sent(index, host, 1, self.now)
            self.judge(index, senders[: -(-length // BLOCK)], wrong)

    def judge(self, index: int, senders: list[str], wrong: bool) -> None:
        if not wrong:
            self.have.add(index)
            self.parole.difference_update(senders)
            self.trust |= {host: min(8, self.trust[host] + 1) for host in senders}
            self.guard.passed(index, self.now)
            return
        self.wasted += self.torrent.piece_length
        self.parole.update(senders)
        self.trust |= {host: self.trust[host] - 2 for host in senders}
        self.guard.failed(index, self.now)
        for host in senders:
            if self.trust[host] <= -7 or len(senders) == 1:
                self.banned.add(host)
                self.guard.banned(host, self.now)
        self.connected -= self.banned
        self.banned &= {HONEST}  # the others dial in again from another port


def survives(swarm: Swarm) -> None:
    """Run to the end and check what is promised."""
    lost = 0.0
    while len(swarm.have) < swarm.torrent.pieces:
        swarm.step()
        lost = lost + STEP_S if HONEST in swarm.banned | swarm.bars.aside else 0.0
        assert lost <= LOST_S
        assert HONEST not in swarm.bars.guilty
        assert swarm.now < 600, "does not end"
    assert swarm.wasted <= max(WASTE, swarm.torrent.length / 2)


@given(
    seed=st.integers(0, 2**32),
    pieces=st.integers(2, 60),
    liars=st.integers(0, 49),
    share=st.sampled_from([0.05, 0.5, 1.0]),
    trusted=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_a_fetch_survives_any_crowd_of_liars(seed: int, pieces: int, liars: int, share: float, trusted: bool) -> None:
    lies = {f"10.0.{i}.66": share for i in range(liars)} | {HONEST: 0.0}
    survives(Swarm(Torrent(pieces, MIB // 2), lies, (HONEST,) if trusted else (), random.Random(seed)))


@given(seed=st.integers(0, 2**32), liars=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_a_network_shared_with_liars_does_not_cost_the_honest_peer_its_place(seed: int, liars: int) -> None:
    lies = {f"10.0.0.{66 + i}": 1.0 for i in range(liars)} | {HONEST: 0.0}
    survives(Swarm(Torrent(20, MIB), lies, (), random.Random(seed)))


@given(
    seed=st.integers(0, 2**32),
    pieces=st.integers(2, 12),
    liars=st.integers(1, 49),
    reachable=st.integers(0, 49),
    share=st.sampled_from([0.05, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_pieces_of_16_mib_cost_no_more_where_the_honest_peer_can_be_dialled(
    seed: int, pieces: int, liars: int, reachable: int, share: float
) -> None:
    lies = {f"10.0.{i}.66": share for i in range(liars)} | {HONEST: 0.0}
    swarm = Swarm(Torrent(pieces, PIECE), lies, (), random.Random(seed))
    swarm.court.reachable = {HONEST} | {f"10.0.{i}.66" for i in range(min(liars, reachable))}
    survives(swarm)
