"""The cheapest chain in which no node comes twice, by branching over the kernel's chains, in which one may come again.

A node takes one stage of a chain: one stage file, one KV cache, one memory ceiling. The kernel only keeps a node from
following itself; so its chain is a lower bound, and the answer if no node repeats. If one does, its single stage lies
after some cut between the two, before it, or across it: three smaller problems without that chain, the cheapest looked
at first. Ranks are total (cost, stages, nodes and ends from the front), so the first chain without a repeat is *the* one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

Row = tuple[int, int, int]
"""(node, start, end), of a held range or of a stage."""

MOST_SOLVES = 200  # a few ms with ten nodes, some tenths of a second with a thousand; most meshes need one


class Chain(NamedTuple):
    """Stages from the first layer to the last; `cost` in ns."""

    cost: int
    stages: tuple[Row, ...]

    @property
    def rank(self) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        """The smallest is the best: cheaper, then fewer stages, then by the nodes' order and nearer ends."""
        return self.cost, len(self.stages), tuple((node, end) for node, _, end in self.stages)


Solve = Callable[[Sequence[Row]], Chain | None]


class Found(NamedTuple):
    """The best chain; `exact` is False when a better one may exist that there was no time to look for."""

    chain: Chain
    exact: bool


def cheapest(solve: Solve, rows: Sequence[Row], room: Sequence[int]) -> Found | None:
    """The best chain without a repeat that these rows allow; `room[node]` is how many layers a node may run."""
    order = count()
    open_problems: list[tuple[object, int, Chain, Sequence[Row]]] = []

    def consider(fewer: Sequence[Row]) -> None:
        chain = solve(fewer)
        if chain is not None:
            heapq.heappush(open_problems, (chain.rank, next(order), chain, fewer))

    consider(rows)
    solved = 1
    while open_problems:
        _, _, chain, here = heapq.heappop(open_problems)
        repeat = repeated(chain)
        if repeat is None:
            return Found(chain, exact=True)
        if solved >= MOST_SOLVES:
            return _hurried(solve, chain, here, [problem[2] for problem in open_problems])
        for fewer in branches(here, *repeat, room):
            consider(fewer)
            solved += 1
    return None


def repeated(chain: Chain) -> tuple[Row, Row] | None:
    """The first node that comes again: its first two stages."""
    seen: dict[int, Row] = {}
    for stage in chain.stages:
        if stage[0] in seen:
            return seen[stage[0]], stage
        seen[stage[0]] = stage
    return None


def branches(rows: Sequence[Row], first: Row, second: Row, room: Sequence[int]) -> Iterator[list[Row]]:
    """The rows that leave the node's one stage after, before, or across the middle between these two."""
    node, cut = first[0], _cut(first, second)
    yield from sides(rows, first, second)
    across = any(row[0] == node and row[1] < cut < row[2] for row in rows)
    if across and room[node] > 1:
        yield list(without(rows, cut - 1, cut + 1, but=node))


def sides(rows: Sequence[Row], first: Row, second: Row) -> tuple[list[Row], list[Row]]:
    """The rows that leave the node's stage after the middle, and those before it."""
    node, cut = first[0], _cut(first, second)
    return list(without(rows, 0, cut, only=node)), list(without(rows, cut, 1 << 30, only=node))  # to the end


def _cut(first: Row, second: Row) -> int:
    return (first[2] + second[1]) // 2


def without(rows: Sequence[Row], start: int, end: int, *, only: int = -1, but: int = -1) -> Iterator[Row]:
    """The rows less the layers [start, end) of one node (`only`), or of all nodes but one."""
    for row in rows:
        node, low, high = row
        if (node != only if but < 0 else node == but) or high <= start or low >= end:
            yield row
            continue
        if low < start:
            yield node, low, start
        if high > end:
            yield node, end, high


def _hurried(solve: Solve, chain: Chain | None, rows: Sequence[Row], others: list[Chain]) -> Found | None:
    """A chain without a repeat, soon: a node that repeats keeps the side of its longer stage, until none does."""
    while chain is not None and (repeat := repeated(chain)) is not None:
        first, second = repeat
        after, before = sides(rows, first, second)
        rows = after if second[2] - second[1] > first[2] - first[1] else before
        chain = solve(rows)
    done = [other for other in (chain, *others) if other is not None and repeated(other) is None]
    return Found(min(done, key=lambda other: other.rank), exact=False) if done else None
