"""The planner (P16): 1,000 nodes × 80 layers, in 5 ms at most, against the same search in plain Python.

hali's time is all of `plan_route`: pricing every node for the request, the search, and the route. The mesh was read into
columns before, as it is for each request but the first after a change; how long that takes is `read_ms`. Python gets the
prices for nothing and searches the same way: from the last layer, two labels a region, the window of a stage as a
deque. Seconds are of this machine, so the gate is on the ratio; `limit_ms` and `read_ms` are for people.
"""

from __future__ import annotations

import time
from collections import deque
from random import Random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.versus import SHORT, versus
from hali.pipeline import planner
from hali.pipeline.mesh import Ask, Columns, Mesh, Node

NODES, LAYERS, REGIONS = 1000, 80, 32
LIMIT_MS = 5  # performance.md, P16
ROUNDS = 5 if SHORT else 9
ASK = Ask(requester="n0", prompt=500, reply=200, context=4096)
NEVER = 1 << 62
Label = tuple[int, int, int]  # cost, stages, node
NOTHING: Label = (NEVER, 0, -1)
Levels = list[list[list[tuple[Label, Label]]]]


def mesh(shortest: int, longest: int) -> Mesh:
    """Home computers all over the world, each with a part of the layers."""
    random = Random(1)

    def node(place: int) -> Node:
        start = random.randrange(LAYERS - shortest + 1)
        return Node(
            id=f"n{place}",
            ranges=((start, min(LAYERS, start + random.randint(shortest, longest))),),
            embedding=True,
            head=True,
            pool=random.random() < 0.01,
            region=random.randrange(REGIONS),
            access_ms=random.uniform(1, 30),
            up=random.uniform(500, 20_000),
            down=random.uniform(5_000, 50_000),
            prefill_ms=random.uniform(0.01, 1),
            decode_ms=random.uniform(0.1, 5),
            queue_ms=random.choice([0.0, 0.0, 50.0, 400.0]),
            load=random.choice([0.0, 0.0, 1.0, 3.0]),
            delivery=random.uniform(0.7, 1),
            memory_bytes=None if random.random() < 0.1 else random.randint(4, 24) << 30,
            max_context=8192,
        )

    return Mesh(
        layers=LAYERS,
        nodes=tuple(node(place) for place in range(NODES)),
        rtt_ms=tuple(tuple(0.0 if a == b else random.uniform(5, 200) for b in range(REGIONS)) for a in range(REGIONS)),
        hidden_bytes=16_384,
        layer_bytes=900 << 20,
        kv_bytes=4096,
        buffer_bytes=300 << 20,
    )


def sweep(problem: planner._Problem, onward: list, labels: list) -> tuple[int, int]:  # type: ignore[type-arg]
    """The cheapest chain (cost, stages) that goes on as `onward` says; fills labels[layer][region]."""
    per_layer, fixed, enter, leave, first, last = problem.prices.tolist()
    path, room, region = problem.path.tolist(), problem.room, problem.columns.region
    ends: list[deque[tuple[int, int, int]]] = [deque() for _ in problem.columns.rows]
    best = (NEVER, 0)
    for at in range(LAYERS - 1, -1, -1):
        entries: list[list[Label]] = [[NOTHING, NOTHING] for _ in range(REGIONS)]
        for place, (node, start, end) in enumerate(problem.columns.rows):
            if not start <= at < end:
                continue
            if at + 1 == LAYERS:
                key, stages = last[node], 0
            else:
                one, other = onward[at + 1][region[node]]
                key, stages, _ = other if one[2] == node else one
                key += leave[node]
            window = ends[place]
            if key < NEVER:
                key += per_layer[node] * (at + 1)
                while window and window[-1][:2] >= (key, stages):
                    window.pop()
                window.append((key, stages, at + 1))
            while window and window[0][2] > at + room[node]:
                window.popleft()
            if not window:
                continue
            cost, stages = window[0][0] - per_layer[node] * at + fixed[node], window[0][1] + 1
            if at == 0:
                best = min(best, (cost + first[node], stages))
                continue
            label = (cost + enter[node], stages, node)
            pair = entries[region[node]]
            if label < pair[0]:
                pair[0], pair[1] = label, pair[0]
            elif label < pair[1]:
                pair[1] = label
        if at == 0:
            break
        found = [
            (*label[1:], there, label[0]) for there in range(REGIONS) for label in entries[there] if label[0] < NEVER
        ]
        for here in range(REGIONS):
            ways = sorted((cost + path[here][there], stages, node) for stages, node, there, cost in found)
            one, other = [*ways, NOTHING, NOTHING][:2]
            labels[at][here] = (one, other)
    return best


def plain(columns: Columns) -> float:
    """The cost in ms of the cheapest chain without following itself, of at most eight stages."""
    problem = planner._Problem(columns, ASK)
    blank = [[(NOTHING, NOTHING)] * REGIONS for _ in range(LAYERS)]
    levels = [[list(line) for line in blank] for _ in range(planner.MOST_STAGES + 1)]
    cost, stages = sweep(problem, levels[0], levels[0])
    if stages > planner.MOST_STAGES:
        levels[0] = blank
        for depth in range(1, planner.MOST_STAGES + 1):
            cost, _ = sweep(problem, levels[depth - 1], levels[depth])
    return cost / 1e6


@pytest.mark.parametrize(
    ("case", "shortest", "longest"),
    [
        ("1,000 nodes × 80 layers", 8, 40),
        ("1,000 nodes × 80 layers, all held by all", 80, 80),
        ("1,000 nodes × 80 layers, eight stages bind", 9, 13),
    ],
)
def test_plan(benchmark: BenchmarkFixture, case: str, shortest: int, longest: int) -> None:
    around = mesh(shortest, longest)
    columns = Columns(around)
    route = planner.plan_route(columns, ASK)
    assert route.exact and route.cost_ms == plain(columns)
    began = time.perf_counter()
    Columns(around)
    read_ms = 1e3 * (time.perf_counter() - began)
    versus(
        benchmark,
        "P16",
        case,
        lambda: planner.plan_route(columns, ASK),
        {"python": lambda: plain(columns)},
        rounds=ROUNDS,
    )
    benchmark.extra_info.update(limit_ms=LIMIT_MS, read_ms=read_ms, stages=len(route.stages))
