"""What a node asks whom for, while others fetch the same torrent. Pure.

Each piece has one owner among the nodes that fetch (`ownership.py`). Only the owner asks a seed for it; the others get it from
whoever has it by then, and what only its owner has first goes to a few, who pass it on. So a seed sends each piece once, and all
links carry different pieces. Where two see different nodes, a piece is sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from hali.model.units import BLOCK
from hali.transfer.ownership import Fellow, Ownership, most_likely

LOOK_S = 0.2  # a piece takes longer than this when ten nodes share a link of 1 Gbit/s
STARVED_S = 2.0  # with nothing to ask a seed for and next to nothing from others, before their pieces are taken over, …
PATIENCE = 2  # … and for as long as so many of our own took: the last pieces of all come from the seeds at that pace
AHEAD = 8  # of our own pieces are begun at once …
LOW = 2  # … when there are no more than that: the last blocks of one may have been asked for already
STEP_BLOCKS = 4  # to begin one, in the time of so many from the seeds; a request has room after a block came; …
STEP_S = 0.1  # … at most this, …
SHORT_STEP_S = 0.02  # … and at least this
TRY_S = 1.0  # how long at most: some seeds send in bursts …
REST_S = 1.0  # … and then all else comes again, before the next try
END_STEP_S = 0.05  # at least, between looks at what is left to ask the seeds for
DRAIN_S = 6.0  # what libtorrent has asked a peer for comes in this time, mostly
DEPUTIES = 2  # at least so many get a piece of its owner, and all others of these too; …
DEPUTY_PIECES = 16  # … but nobody waits for them longer than so many pieces take at our fastest
SHARE = 3  # when at most one in so many still needs the seeds, who does asks for nothing else, while they send well
LARGE = (
    4 * 1024 * 1024
)  # bytes of a piece: fewer than eight such are begun; smaller ones would be whole before the next look
FIRST_S = 1.0  # nodes that begin with us are known by then
FREE_S = 3.0  # for which the seeds are asked for anything, when others have all that is missing and do not send it
SLOW_RATE = 64 * 1024  # bytes per second; below it a piece of 16 MiB takes over four minutes


class View(msgspec.Struct, frozen=True):
    """What a look at the peers shows. `missing` is what we want and do not have."""

    fellows: tuple[Fellow, ...]
    seeds: frozenset[str]  # addresses of peers that had everything when we met
    missing: frozenset[int]
    rate: int = 0  # bytes per second, from all, …
    seed_rate: int = 0  # … and from those that had everything
    # Both are looked up when `Orders.counts` says so, else empty.
    begun: frozenset[int] = frozenset()  # some block of these was asked for …
    asked: frozenset[int] = frozenset()  # … and every block of these


class Orders(msgspec.Struct, frozen=True):
    """Ask for `own` first and for `closed` not at all; look again after `for_s`.

    `aside` are seeds that have nothing to give us. `counts`: that look needs `View.begun` and `View.asked`.
    """

    own: frozenset[int] = frozenset()
    closed: frozenset[int] = frozenset()
    aside: frozenset[str] = frozenset()
    for_s: float = LOOK_S
    counts: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether they ask for nothing out of the ordinary."""
        return not (self.own or self.closed or self.aside)


ANYTHING = Orders()  # of anybody, as if nobody else fetched


def before_others(me: bytes, pieces: int, missing: Collection[int]) -> Orders:
    """Before it is known who else fetches: first that of `missing` which others would most likely leave to `me`.

    Nodes that begin together know of each other after some tenths of a second. What all of them ask a seed for until then, it
    sends to each: a twentieth of 1 GiB on links of 1 Gbit/s.
    """
    left = [index for index in most_likely(me, pieces) if index in missing]
    if len(left) < 2:  # soon there would be nothing to do
        return ANYTHING
    return Orders(frozenset(left[:1]), frozenset(missing).difference(left))


class _Pace:
    """How long the seeds take for a piece of ours."""

    def __init__(self) -> None:
        self.seconds = 0.0  # lately
        self._own = frozenset[int]()  # at the last look
        self._since = 0.0  # when the last of them came, or the first was asked for

    def see(self, own: frozenset[int], missing: frozenset[int], now: float) -> None:
        """`own` is left to be asked of the seeds."""
        came = len(self._own - missing)
        if came:
            took = (now - self._since) / came
            self.seconds = (self.seconds + took) / 2 if self.seconds else took
        if came or not self._own:
            self._since = now
        self._own = own


class _Beginning:
    """Begins some of our own pieces before all else, as others have something for us.

    With more than 32 MiB of pieces begun libtorrent begins no other, whatever its priority: the seeds would be asked for
    what others bring. But of pieces that are begun it takes the rarest first, and these are our own.
    """

    def __init__(self) -> None:
        self._begun: set[int] = set()  # own pieces that a seed was asked for
        self._goes_on = False
        self._at: int | None = None  # the piece that is to be begun, …
        self._since = 0.0  # … and since when
        self._rests_until = float("-inf")

    def next_of(self, own: frozenset[int], begun: frozenset[int], now: float) -> int | None:
        """The piece to begin, if that has to be now."""
        self._begun = (self._begun | begun) & own
        enough = AHEAD if self._goes_on else LOW + 1
        self._goes_on = len(self._begun) < enough and self._begun != own and now >= self._rests_until
        if not self._goes_on:
            self._at = None
            return None
        piece = min(own - self._begun)
        if piece != self._at:
            self._at, self._since = piece, now
        if now - self._since >= TRY_S:
            self._at, self._goes_on, self._rests_until = None, False, now + REST_S
            return None
        return piece


class Stripes:
    """The decisions of one fetch of `pieces` pieces of `size` bytes by the node with peer id `me`. Times are in seconds."""

    def __init__(self, me: bytes, pieces: int, size: int) -> None:
        self._me, self._size, self._large = me, size, size >= LARGE
        self._ownership = Ownership(me, pieces)
        self._pace = _Pace()
        self._beginning = _Beginning()
        self._fed: float | None = None  # when there was last enough to do
        self._free_until = float("-inf")
        self._last = frozenset[int]()  # own pieces, …
        self._drained_at = float("inf")  # … and when the last block of them should be there
        self._best = 0  # bytes per second, at its fastest
        self._fresh: dict[int, float] = {}  # what one fellow has, and since when

    def decide(self, view: View, now: float) -> Orders:
        """What to ask whom for; `ANYTHING` where seeds are not scarce, or when those who fetch let us starve."""
        if len(view.fellows) + 1 <= len(view.seeds) or not view.fellows or not view.missing:
            self._fed = now
            return ANYTHING
        held = frozenset[int]().union(*(fellow.has for fellow in view.fellows))
        self._best = max(self._best, view.rate)
        own = self._own(view, held)
        self._pace.see(own, view.missing, now)
        if own or view.rate >= SLOW_RATE or self._fed is None:
            self._fed = now
        elif now - self._fed > max(STARVED_S, PATIENCE * self._pace.seconds):
            own = self._take_over(view, held, now)
        if now < self._free_until:
            return ANYTHING
        fresh = self._for_deputies(view, now)
        if not own:
            return Orders(closed=fresh, aside=view.seeds - {fellow.host for fellow in view.fellows})
        if self._large:
            contended = bool(view.rate and held & view.missing)
            if contended and (piece := self._beginning.next_of(own, view.begun, now)) is not None:
                return Orders(frozenset({piece}), view.missing - {piece}, for_s=_step_s(view.seed_rate), counts=True)
            if self._own_alone(own, held, view, now):
                return Orders(own, view.missing - own - view.asked, for_s=STEP_S, counts=True)
        ends = self._large and len(own) <= LOW
        for_s = max(END_STEP_S, _step_s(view.seed_rate)) if ends else LOOK_S
        return Orders(own, (view.missing - held - own) | fresh, for_s=for_s, counts=ends)

    def _own(self, view: View, held: frozenset[int]) -> frozenset[int]:
        self._ownership.see(view.fellows, view.missing)
        return self._ownership.ours(view.missing - held)

    def _take_over(self, view: View, held: frozenset[int], now: float) -> frozenset[int]:
        """Pieces of those who do not bring them go to others; where everything is held, the seeds have to help."""
        self._fed = now
        late = self._ownership.of(view.missing - held)
        if not late:
            self._free_until = now + FREE_S
        self._ownership.pass_over([fellow for fellow in view.fellows if fellow.id in late])
        return self._own(view, held)

    def _own_alone(self, own: frozenset[int], held: frozenset[int], view: View, now: float) -> bool:
        """Whether to ask for our own pieces and nothing else.

        Either all of them were asked for and are on their way: the seeds would be asked for what others have. Or few others
        need the seeds any more, whose link lies idle beside those of many that bring what they have; and what we have not
        got yet, nobody has: a link is not shared out fairly, and some of nine come to a third of what others got. The former
        for as long as they should take, the latter for as long as the seeds send us our part, too.

        What others were asked for is on its way meanwhile, and stays open. Where nothing is, libtorrent would have all that is
        open once it has our own: it would take itself for finished, and hang up.
        """
        if own != self._last:
            self._last, self._drained_at = own, float("inf")
        needy = self._ownership.of(view.missing - held)  # who else needs the seeds, and we
        few = needy == {self._me} or SHARE * len(needy) <= len(self._ownership.members)
        stays_open = not view.asked & view.missing <= own
        if not stays_open or not (few or own <= view.asked):
            return False
        self._drained_at = min(self._drained_at, now + DRAIN_S)
        return now < self._drained_at or (few and (len(needy) + 1) * view.seed_rate >= self._best)

    def _for_deputies(self, view: View, now: float) -> frozenset[int]:
        """What the only one who has it should send to others, and all of these then to us.

        When a piece of someone who got little from the seeds comes at last, all others wait for it: if all asked its owner at
        once, its link alone would carry it to all of them, and none could pass it on before all have it.
        """
        ring = sorted({self._me} | {fellow.id for fellow in view.fellows if fellow.fetching})
        if not self._large or len(ring) <= DEPUTIES + 1:
            return frozenset()
        held, rare = set[int](), set(view.missing)
        for fellow in view.fellows:
            rare -= held & fellow.has
            held |= rare & fellow.has
        self._fresh = {index: self._fresh.get(index, now) for index in held & rare}
        begun, place = now - DEPUTY_PIECES * self._size / max(self._best, 1), ring.index(self._me)
        # Of three in a row one may be the owner. A row begins at each node equally often, however many there are.
        return frozenset(i for i, at in self._fresh.items() if at > begun and (place - i) % len(ring) > DEPUTIES)


def _step_s(seed_rate: int) -> float:
    return min(STEP_S, max(SHORT_STEP_S, STEP_BLOCKS * BLOCK / seed_rate)) if seed_rate else STEP_S


def levels(orders: Orders, *, first: int, never: int) -> Mapping[int, int]:
    """`orders` as priorities, of those pieces that have one of their own."""
    return dict.fromkeys(orders.closed, never) | dict.fromkeys(orders.own, first)
