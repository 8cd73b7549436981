"""How a fetch deals with peers of which some lie: whom to shut out, how many pieces to risk, when to give up. Pure.

Nobody is disconnected to find out who lies (the honest one would be too): `window.py` makes bad pieces tell on their sender. Out
goes who is guilty; and, when more bad pieces would cost too much, everyone of whom nothing good is known, as long as somebody
known to be honest sends. `guard.py` feeds this and carries it out. Times are those of the event loop's clock, in seconds.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

import msgspec

from hali.model.units import BLOCK, MIB
from hali.transfer.evidence import PROOF, Evidence

MOST = 200_000  # pieces of a torrent
FREE = 2  # open pieces at first: one is asked for while the other is checked …
CROWD = 4  # … but one if there are as many strangers: each of them touches all that are open
WASTE = 64 * MIB  # that may come in vain, or half of the file if that is more: the promise that the tests hold
LEARNING = 0.4  # the part of it that is spent on finding out who lies; the rest is for what is under way by then
SILENCE_S = 2.0  # without a byte from the honest ones before others are let in again
PATIENT_SILENCE_S = 15.0  # … once nothing is left to try those others with
SECOND_CHANCE_S = 10.0  # for the others, then
LEAN = 32 * MIB  # of pieces that are open to the honest ones while they are alone
EXPECTED_S = 10.0  # for peers known to be honest to connect, before strangers are tried in their place
TIME_OUT_S = 3.0  # a peer sits out that keeps pieces and does not send them; an honest one may be out for 5 s
# Without a block from anyone, before one more piece is opened: those that are open may be nobody's any more.
IDLE_S = 0.4
FIRST_S = 10.0  # … before the first block from a crowd, whose members have to come, look around and let us in
SLOW_S = 3.0  # without a piece done or failed, before one more is opened: who has them may be slow
HELD_UP_S = 3.0  # … before those who hold pieces have to let go of them
LARGE = (
    4 * MIB
)  # a piece so long that six bad ones are all there is to find out with; with shorter ones to ask takes longer
AUDITABLE = PROOF * BLOCK  # a piece with which to ask proves as much as pieces that pass
AGAIN = 1 / 16  # of the budget: so much more must come in vain before peers are asked again
AUDIT_S = 30.0  # at most, in which nothing is asked for, so that nothing more comes in vain before the first are known
# … while nobody can be asked: peers are found within seconds, and a bad piece of 16 MiB comes in less.
NEWCOMERS_S = 2.0
SLOW_RATE = 64 * 1024  # bytes per second; below it a piece of 16 MiB takes over four minutes
SWARM_OF_ONE = 8  # guilty addresses of one network after which the rest of it is taken for the same attacker's


class Bars(msgspec.Struct, frozen=True):
    """Addresses not to talk to: `guilty` for good; `aside` for now, unless another fetch needs them."""

    guilty: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()  # CIDR; newcomers from there are not let in
    known: frozenset[str] = frozenset()  # not newcomers
    aside: frozenset[str] = frozenset()


class Holder(msgspec.Struct, frozen=True):
    """A connected peer: how many blocks it was asked for and has not sent, and bytes of payload per second."""

    host: str
    asked: int
    rate: int


class Defence:
    """The decisions for one fetch. `WASTE` bounds what may come in vain."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._piece = 0
        self._budget = float(WASTE)
        self._spent = 0
        self._grown = FREE
        self._extra, self._untried = 0, True
        self._stuck = False
        self._audit_since: float | None = None
        self._next_audit = 0.0  # not before so many bytes came in vain
        self._heard = self._active = self._began = self._verdict = float("-inf")
        self._others_until = float("-inf")
        self._lively: dict[str, float] = {}  # when a host came, or sent a block
        self._sitting_out: dict[str, float] = {}
        self._expecting_until = float("-inf")
        self._networks: Counter[str] = Counter()

    def begin(self, length: int, piece: int, now: float) -> None:
        """The torrent is known: bytes of the file, and of a piece."""
        self._piece, self._budget = piece, max(WASTE, length / 2)
        self._expecting_until = now + EXPECTED_S if self._evidence.trusted else now
        self.started(now)

    # ---- what happened

    def started(self, now: float) -> None:
        """The torrent was added (anew)."""
        self._heard = self._active = self._began = now
        self._decided(now)

    def arrived(self, host: str, now: float) -> None:
        """A connection exists."""
        self._lively[host] = now

    def heard(self, host: str, now: float) -> None:
        """A block came from `host`."""
        self._active = self._lively[host] = now
        if host in self._evidence.honest:
            self._heard = now

    def received(self, now: float) -> None:
        """Bytes came, by nobody else than the honest ones if these are alone."""
        if self._evidence.present <= self._evidence.honest:
            self._heard = now

    def passed(self, now: float) -> None:
        """A piece was right."""
        self._grown, self._untried = self._grown + 1, False
        self._decided(now)

    def failed(self, size: int, now: float) -> None:
        """A piece of `size` bytes was wrong."""
        self._spent += size
        self._grown, self._untried = 1, False
        self._decided(now)
        if self.exhausted and now < self._others_until:  # a bad piece is all that such a chance may cost then
            self._others_until, self._heard = now, now

    def _decided(self, now: float) -> None:
        self._verdict, self._extra, self._stuck = now, 0, False

    def audit(self, now: float) -> None:
        """Peers are being asked one by one who they are: meanwhile ask for nothing."""
        self._audit_since = now

    def audit_ends(self, now: float) -> None:
        """Enough is known, or nothing more to be known."""
        if self._audit_since is not None:
            self._audit_since, self._heard = None, now
            self._next_audit = self._spent + AGAIN * self._budget
            self._decided(now)

    def audit_is_idle(self, now: float) -> None:
        """Nobody is being asked: peers may yet come that can be."""
        if self._audit_since is not None and now - self._audit_since > NEWCOMERS_S:
            self.audit_ends(now)

    def expect(self, now: float) -> None:
        """Who is known to be honest will connect again: nobody else needs to meanwhile."""
        self._expecting_until = now + EXPECTED_S

    def audited(self, size: int) -> None:
        """So many bytes came to find out who lies."""
        self._spent += size

    def convicted(self, host: str) -> None:
        """`host` is guilty from now on."""
        self._networks[network_of(host)] += 1

    def tick(self, now: float) -> None:
        """Time passes: what makes no progress may have more pieces."""
        if self._audit_since is not None and now - self._audit_since > AUDIT_S:
            self.audit_ends(now)
        waiting = not self.hostile and self.cautious and self._active <= self._began
        idle_s, slow_s = (FIRST_S, FIRST_S) if waiting else (IDLE_S, SLOW_S)
        if now - self._active > idle_s or now - self._verdict > slow_s:
            watched = self.hostile and not (self.is_lean and now >= self._others_until)
            self._extra = self._extra + 1 if watched else min(2 * self._extra + self._grown, MOST)
        self._sitting_out = {h: t for h, t in self._sitting_out.items() if t > now}
        silence = PATIENT_SILENCE_S if self.exhausted else SILENCE_S
        if self.is_lean and now - self._heard > silence:
            self._others_until, self._heard = now + SECOND_CHANCE_S, now
            self._active, self._extra = now, 0

    def held_up(self, holders: list[Holder], now: float) -> None:
        """Nothing is decided for long: those who hold pieces without sending them sit out, if there is anybody else."""
        self._stuck = self.hostile and bool(holders) and not any(h.asked for h in holders)
        slow = {
            h.host for h in holders if h.asked and h.rate < (SLOW_RATE if self.hostile else 1)
        } - self._evidence.honest
        idle = {host for host in slow if now - self._lively.get(host, now) > (0 if self.hostile else HELD_UP_S)}
        if self._evidence.present - idle:
            self._sitting_out |= dict.fromkeys(idle, now + TIME_OUT_S)

    # ---- what follows

    @property
    def hostile(self) -> bool:
        """Somebody lied."""
        return self._evidence.failures > 0

    def is_held_up(self, now: float) -> bool:
        """Whether to ask who holds the pieces."""
        return now - self._verdict > HELD_UP_S

    @property
    def exhausted(self) -> bool:
        """So much came in vain that strangers are not worth another try, if there is any other way to get the file."""
        return self._spent + self._piece > self._budget

    @property
    def is_stuck(self) -> bool:
        """Nobody is asked for anything: libtorrent waits for the hash of a full piece for ever (seen in one of ten runs with 49 liars)."""
        return self._stuck

    def wants_audit(self, size: int) -> bool:
        """Whether to ask peers ourselves for the piece of `size` bytes that failed: bad pieces cost more than there is to find out with.

        That is foreseen where pieces are large, and else seen when it has come to it: to ask takes seconds in which nothing comes.
        """
        if not self.hostile or self.is_lean:
            return False
        if self._piece >= LARGE:
            return len(self._evidence.strangers) * self._piece > LEARNING * WASTE
        return size >= AUDITABLE and self.is_costly and self._spent >= self._next_audit

    @property
    def is_auditing(self) -> bool:
        """Whether nothing is to be asked for until more is known of the peers."""
        return self._audit_since is not None

    @property
    def is_costly(self) -> bool:
        """Whether there is hardly anything left to find out with."""
        return self._allowance < 2 * self._piece

    @property
    def cautious(self) -> bool:
        """Whether a piece is likely to be wrong: then a short one is to be tried first."""
        return self.hostile or len(self._evidence.strangers) >= CROWD

    def window(self) -> int | None:
        """How many pieces may be open; None: all; 0 while peers are asked who they are."""
        evidence = self._evidence
        if self.is_auditing:
            return 0
        if not evidence.strangers or len(evidence.present) == 1:
            # Those of whom good is known go on alone: if they fall silent, others can be let in on other pieces.
            return max(FREE, LEAN // max(1, self._piece)) + self._extra if self.is_lean else None
        grown = 1 if self._untried and self.cautious else self._grown
        return max(1, min(grown, self._allowance // max(1, self._piece))) + self._extra

    def tries_others(self, now: float, *, patient: bool = False) -> bool:
        """Whether the honest ones are silent, so that others have their second chance."""
        return self.is_lean and not self._shuts_out(now, patient)

    def _shuts_out(self, now: float, patient: bool) -> bool:
        """Whether only the honest ones are talked to."""
        expecting = self.hostile and now < self._expecting_until
        return (self.is_lean and now >= self._others_until) or expecting or (patient and self.exhausted)

    def bars(self, now: float, *, patient: bool = False) -> Bars:
        """Whom not to talk to. `patient`: there is another way to get the file, so strangers are not worth more than the budget."""
        evidence = self._evidence
        aside = frozenset(self._sitting_out)
        if self._shuts_out(now, patient):
            aside |= frozenset(evidence.seen) - evidence.honest
        crowded = {n for n, count in self._networks.items() if count >= SWARM_OF_ONE}
        if not self._honest_present:  # somebody new is needed, wherever he lives
            crowded.clear()
        known = frozenset[str]()
        if crowded:  # rarely; to read every address at each look was a seventh of what a pull costs Python
            known = frozenset(h for h in evidence.seen if h not in evidence.guilty and network_of(h) in crowded)
        return Bars(frozenset(evidence.guilty), frozenset(crowded), known, aside - evidence.guilty)

    @property
    def is_lean(self) -> bool:
        """Whether the honest ones suffice: others would cost too much to try, or some are trusted from the start."""
        present = self._honest_present
        return self.hostile and bool(present) and (self.is_costly or bool(present & self._evidence.trusted))

    @property
    def _honest_present(self) -> frozenset[str]:
        return self._evidence.honest & self._evidence.present

    @property
    def _allowance(self) -> int:
        return int(LEARNING * self._budget) - self._spent


def network_of(host: str) -> str:
    """The network that one attacker may own as a whole: /24, or /64 of IPv6."""
    address = ipaddress.ip_address(host)
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False))
