"""The cheapest chain in which no node comes twice.

A node takes one stage of a chain: one stage file, one KV cache, one memory ceiling. The kernel by itself only keeps a
node from following itself, which makes a chain a lower bound, and the answer if no node repeats. The nodes that do
repeat are made exclusive, which doubles the work for each, and the search is run again (decremental state space
relaxation). Few meshes need it; it takes cheap hops and fast nodes with room for a part of the layers only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hali._native import planning

Row = tuple[int, int, int]
"""(node, start, end), of a held range or of a stage."""

MOST_LOOKS = 5_000_000  # at a row and layer, some 10 ns each; eight times as many where the number of stages binds too


class Chain(NamedTuple):
    """Stages from the first layer to the last; `cost` in ns."""

    cost: int
    stages: tuple[Row, ...]


Solve = Callable[[Sequence[Row], Sequence[int]], Chain | None]
"""The cheapest chain of these rows, in which these nodes come once at most."""


class Found(NamedTuple):
    """The best chain, or None; `exact` is False when there may be a better one that there was no time to look for."""

    chain: Chain | None
    exact: bool


def cheapest(solve: Solve, rows: Sequence[Row]) -> Found:
    """The best chain without a repeat that these rows allow."""
    looks = sum(end - start for _, start, end in rows)
    exclusive: list[int] = []
    while (chain := solve(rows, exclusive)) is not None:
        again = repeated(chain)
        if not again:
            return Found(chain, exact=True)
        exclusive += again
        if len(exclusive) > planning.MOST_EXCLUSIVE or looks << len(exclusive) > MOST_LOOKS:
            hurried = [_hurried(solve, rows, chain, stays) for stays in (_longest, _first, _last)]
            return Found(min(filter(None, hurried), default=None), exact=False)
    return Found(None, exact=True)


def repeated(chain: Chain) -> list[int]:
    """The nodes that come more than once, ascending."""
    return sorted(node for node, times in Counter(stage[0] for stage in chain.stages).items() if times > 1)


Stays = Callable[[Sequence[Row]], int]


def _longest(stages: Sequence[Row]) -> int:
    return max(range(len(stages)), key=lambda place: stages[place][2] - stages[place][1])


def _first(stages: Sequence[Row]) -> int:
    return 0


def _last(stages: Sequence[Row]) -> int:
    return len(stages) - 1


def _hurried(solve: Solve, rows: Sequence[Row], chain: Chain | None, stays: Stays) -> Chain | None:
    """A chain without a repeat, soon, or None: a node that repeats keeps only the layers around one of its stages."""
    while chain is not None and (again := repeated(chain)):
        node = again[0]
        stages = [stage for stage in chain.stages if stage[0] == node]
        place = stays(stages)
        start = stages[place - 1][2] if place else 0
        end = stages[place + 1][1] if place + 1 < len(stages) else max(end for _, _, end in rows)
        rows = [row for row in (_within(row, start, end) if row[0] == node else row for row in rows) if row]
        chain = solve(rows, ())
    return chain


def _within(row: Row, start: int, end: int) -> Row | None:
    node, low, high = row
    low, high = max(low, start), min(high, end)
    return (node, low, high) if low < high else None
