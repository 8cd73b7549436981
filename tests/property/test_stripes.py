"""Nodes that fetch one torrent at once: a seed sends each piece once, and everybody gets everything, whoever leaves or hangs."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hali.transfer.ownership import Fellow
from hali.transfer.stripes import DEPUTIES, LARGE, Stripes, View

SEED = "10.0.0.1"
STEP_S = 0.5  # in which a link carries one piece
FAST = 10**7  # bytes per second


class Swarm:
    """Nodes that do what `Stripes` says, one seed; each link carries one piece in a step, each way."""

    def __init__(self, nodes: int, pieces: int, random: Random) -> None:
        self.pieces, self._random = pieces, random
        self.has: dict[bytes, set[int]] = {bytes([i + 1]) * 20: set() for i in range(nodes)}
        self._stripes = {node: Stripes(node, pieces, LARGE) for node in self.has}
        self._served = Counter[bytes]()
        self.hung: set[bytes] = set()
        self.now, self.sent, self.steps = 0.0, 0, 0

    def step(self) -> None:
        orders = {n: s.decide(self._seen_by(n), self.now) for n, s in self._stripes.items() if n in self.has}
        active = [node for node in self.has if node not in self.hung]
        before = {node: frozenset(has) for node, has in self.has.items()}
        asking = {}
        for node in active:
            missing = set(range(self.pieces)) - self.has[node]
            if SEED not in orders[node].aside and (open_ := missing - orders[node].closed):
                asking[node] = sorted(orders[node].own & open_ or open_)
        if asking:  # a seed serves those who ask in turn
            node = min(asking, key=lambda n: self._served[n])
            self._served[node] += 1
            self.sent += 1
            self.has[node].add(self._random.choice(asking[node]))
        self._swap(active, {taker: orders[taker].closed for taker in active}, before)
        self.now, self.steps = self.now + STEP_S, self.steps + 1

    def _swap(
        self, active: list[bytes], closed: dict[bytes, frozenset[int]], before: dict[bytes, frozenset[int]]
    ) -> None:
        receiving = set(active)
        for giver in active:
            offers = {taker: before[giver] - self.has[taker] - closed[taker] for taker in receiving}
            takers = [(len(self.has[taker]), taker) for taker in receiving if offers[taker]]
            if takers:
                _, taker = min(takers)
                receiving.discard(taker)
                self.has[taker].add(self._random.choice(sorted(offers[taker])))

    def _seen_by(self, me: bytes) -> View:
        fellows = [
            Fellow(node, f"10.0.1.{node[0]}", frozenset(has), fetching=len(has) < self.pieces)
            for node, has in self.has.items()
            if node != me
        ]
        missing = frozenset(range(self.pieces)) - self.has[me]
        held = frozenset[int]().union(*(f.has for f in fellows if f.id not in self.hung)) if fellows else frozenset()
        return View(tuple(fellows), frozenset({SEED}), missing, rate=FAST if held & missing else 0)

    def run(self, limit: int) -> None:
        while any(len(self.has[n]) < self.pieces for n in self.has if n not in self.hung):
            self.step()
            assert self.steps < limit


swarms = st.builds(Swarm, st.integers(2, 9), st.integers(9, 60), st.randoms(use_true_random=False))


@given(swarms)
def test_a_seed_sends_each_piece_once(swarm: Swarm) -> None:
    swarm.run(limit=4 * swarm.pieces + 40)
    assert swarm.sent == swarm.pieces


@given(swarms, st.integers(0, 40))
def test_of_who_leaves_only_what_nobody_else_had_is_sent_again(swarm: Swarm, after: int) -> None:
    for _ in range(after):
        swarm.step()
    gone = swarm.has.pop(next(iter(swarm.has)))
    lost = gone - set().union(*swarm.has.values()) if swarm.has else set()
    alone = len(swarm.has) == 1  # then the seed is as good as anybody
    swarm.run(limit=6 * swarm.pieces + 80)
    assert alone or swarm.sent <= swarm.pieces + len(lost)


@given(swarms, st.integers(0, 40))
def test_what_one_that_hangs_does_not_fetch_is_fetched_by_others(swarm: Swarm, after: int) -> None:
    for _ in range(after):
        swarm.step()
    hung = next(iter(swarm.has))
    swarm.hung = {hung}
    swarm.run(limit=10 * swarm.pieces + 200)


@given(st.integers(2, 12), st.integers(0, 59), st.integers(0, 11))
def test_of_who_alone_has_a_piece_two_others_take_it_and_all_once_they_have_it(
    nodes: int, piece: int, holder: int
) -> None:
    everyone, holder = [bytes([i + 1]) * 20 for i in range(nodes)], holder % nodes

    def takers(*holders: int) -> list[int]:
        has = {node: frozenset({piece}) if at in holders else frozenset[int]() for at, node in enumerate(everyone)}
        found = []
        for at, me in enumerate(everyone):
            fellows = tuple(Fellow(node, f"10.0.1.{node[0]}", has[node]) for node in everyone if node != me)
            missing = frozenset(range(60)) - has[me]
            seen = View(fellows, frozenset({SEED}), missing, rate=FAST, begun=missing)
            if at not in holders and piece not in Stripes(me, 60, LARGE).decide(seen, 0.0).closed:
                found.append(at)
        return found

    few = takers(holder)
    assert min(DEPUTIES, nodes - 1) <= len(few) <= DEPUTIES + 1
    assert len(takers(holder, few[0])) == nodes - 2


@given(st.integers(4, 12))
def test_all_pass_on_what_one_has_equally_often(nodes: int) -> None:
    holder, *others = [bytes([i + 1]) * 20 for i in range(nodes)]
    every = frozenset(range(nodes))
    for me in others:
        fellows = [Fellow(each, f"10.0.1.{each[0]}", frozenset()) for each in others if each != me]
        seen = View((Fellow(holder, "10.0.1.1", every), *fellows), frozenset({SEED}), every, rate=FAST, begun=every)
        assert len(every - Stripes(me, nodes, LARGE).decide(seen, 0.0).closed) == DEPUTIES + 1
