"""Links as pipes: how long nodes that do what `stripes.py` says need for a file, from one seed and from each other.

What goes through a link at a moment is shared out among the connections that use it by weighted max-min fairness. A weight is
drawn for each connection, as TCP does not share a full link evenly. What libtorrent asks a peer for is of what is open: our own
pieces in their order, then what is begun, then the rarest. No packets, no hashing, no real clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hali.model.units import PIECE
from hali.transfer.ownership import Fellow
from hali.transfer.stripes import ANYTHING, Orders, Stripes, View

RATE = 6_250_000.0  # bytes per second and direction: 50 Mbit/s
STEP_S = 0.2
SEED = "10.0.0.1"


class Took(NamedTuple):
    """What the origin sent, in copies of the file; and the time of the last, in times of one copy at the link's rate."""

    copies: float
    times: float


@dataclass
class _Node:
    id: bytes
    host: str
    rate: float  # bytes per second, as all rates here
    stripes: Stripes
    got: NDArray[np.float64]  # bytes of each piece
    orders: Orders = ANYTHING
    look_at: float = 0.0
    ended: float | None = None
    receives: float = 0.0
    of_seed: float = 0.0
    has: set[int] = field(default_factory=set)

    def fellow(self) -> Fellow:
        return Fellow(self.id, self.host, frozenset(self.has), fetching=self.ended is None)


class FluidSwarm:
    """Nodes with links of `rates` bytes per second, both ways; the seed's has `RATE`. `unfair`: sigma of the weights' logarithm."""

    def __init__(self, rates: Sequence[float], pieces: int, draw: Random, *, unfair: float = 0.5) -> None:
        self._pieces, self._draw = pieces, draw
        self._nodes = [
            _Node(me, f"10.0.1.{at}", rate, Stripes(me, pieces, PIECE), np.zeros(pieces))
            for at, rate in enumerate(rates)
            for me in [draw.randbytes(20)]
        ]
        n = len(rates)
        self._weights = np.array([[draw.lognormvariate(0, unfair) for _ in range(n)] for _ in range(n + 1)])
        self._under_way: dict[tuple[int, int], int] = {}  # the piece that one sends to another
        self._now = self._sent = 0.0

    def run(self, waited_for: Iterable[int] | None = None, limit: float = 10.0) -> Took:
        """Until all of `waited_for` (numbers of nodes; else all) have everything; AssertionError after `limit` copies' time."""
        waited = [self._nodes[at] for at in waited_for] if waited_for is not None else self._nodes
        copy_s = self._pieces * PIECE / RATE
        while (ends := [node.ended for node in waited]).count(None):
            assert self._now < limit * copy_s, f"stuck: {[len(node.has) for node in self._nodes]}"
            self._look()
            self._flow()
            self._now += STEP_S
        return Took(self._sent / (self._pieces * PIECE), max(end for end in ends if end is not None) / copy_s)

    def _look(self) -> None:
        for node in self._nodes:
            if node.ended is None and node.look_at <= self._now:
                missing = frozenset(range(self._pieces)) - node.has
                begun = frozenset(np.flatnonzero(node.got).tolist()) & missing
                fellows = tuple(other.fellow() for other in self._nodes if other is not node)
                seen = View(
                    fellows, frozenset({SEED}), missing, int(node.receives), int(node.of_seed), begun, asked=begun
                )
                node.orders = node.stripes.decide(seen, self._now)
                node.look_at = self._now + node.orders.for_s

    def _flow(self) -> None:
        flows = [
            (giver, taker, piece)
            for taker, node in enumerate(self._nodes)
            if node.ended is None
            for giver in range(len(self._nodes) + 1)
            if giver != taker and (piece := self._wanted(giver, taker)) is not None
        ]
        for node in self._nodes:
            node.receives = node.of_seed = 0.0
        for (giver, taker, piece), rate in zip(flows, self._shares(flows), strict=True):
            node = self._nodes[taker]
            node.got[piece] += rate * STEP_S
            node.receives += rate
            if giver == len(self._nodes):
                node.of_seed += rate
                self._sent += rate * STEP_S
        for node in self._nodes:
            node.has |= set(np.flatnonzero(node.got >= PIECE).tolist())
            if node.ended is None and len(node.has) == self._pieces:
                node.ended = self._now

    def _wanted(self, giver: int, taker: int) -> int | None:
        """What `taker` asks `giver` for, the seed if that is the number after the last node's."""
        node, of_seed = self._nodes[taker], giver == len(self._nodes)
        if of_seed and SEED in node.orders.aside:
            return None
        there = range(self._pieces) if of_seed else self._nodes[giver].has
        offered = [i for i in there if i not in node.has and i not in node.orders.closed]
        if of_seed:
            offered = [i for i in offered if i in node.orders.own] or offered
        if not offered:
            return None
        if (before := self._under_way.get((giver, taker))) not in offered:
            holders = Counter(i for other in self._nodes for i in other.has)
            before = min(
                offered,
                key=lambda i: (
                    (0, node.got[i] == 0, i, 0.0)
                    if i in node.orders.own
                    else (1, node.got[i] == 0, holders[i], self._draw.random())
                ),
            )
            self._under_way[giver, taker] = before
        return before

    def _shares(self, flows: Sequence[tuple[int, int, int]]) -> NDArray[np.float64]:
        """Bytes per second of each, filled up together until a link of theirs is full."""
        givers, takers = (np.array([flow[end] for flow in flows], dtype=int) for end in (0, 1))
        n, weights, shares = len(self._nodes), self._weights[givers, takers], np.zeros(len(flows))
        up = np.array([*(node.rate for node in self._nodes), RATE])
        down = up[:n].copy()
        open_ = np.ones(len(flows), dtype=bool)
        while open_.any():
            drawn_up = np.bincount(givers[open_], weights[open_], n + 1)
            drawn_down = np.bincount(takers[open_], weights[open_], n)
            with np.errstate(divide="ignore", invalid="ignore"):
                more = min(
                    np.where(drawn_up > 0, up / drawn_up, np.inf).min(),
                    np.where(drawn_down > 0, down / drawn_down, np.inf).min(),
                )
            shares[open_] += weights[open_] * more
            up -= drawn_up * more
            down -= drawn_down * more
            open_ &= (up[givers] > 1.0) & (down[takers] > 1.0)
        return shares
