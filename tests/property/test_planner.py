"""The planner finds what trying every chain finds (tests/reference_planner.py), ties included."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.model.errors import Unreachable
from hali.pipeline import planner
from hali.pipeline.mesh import Ask, Columns, Mesh, Node
from tests import reference_planner as reference


def node(random: Random, place: int, layers: int, regions: int, ties: bool) -> Node:
    """Anything between a machine that holds all and one that holds scattered layers; a third of it unmeasured."""

    def maybe(low: float, high: float) -> float | None:
        if random.random() < 0.15:
            return None
        return float(random.randint(int(low), int(low) + 1)) if ties else random.uniform(low, high)

    ranges = []
    for _ in range(random.randint(0, 3)):
        start = random.randrange(layers)
        ranges.append((start, random.randint(start + 1, layers)))
    return Node(
        id=f"n{place}",
        ranges=tuple(ranges) if random.random() < 0.85 else ((0, layers),),
        embedding=random.random() < 0.8,
        head=random.random() < 0.8,
        pool=random.random() < 0.3,
        region=random.randrange(regions),
        access_ms=maybe(0, 20),
        up=maybe(100, 5000),
        down=maybe(100, 5000),
        prefill_ms=maybe(0, 3),
        decode_ms=maybe(0, 30),
        queue_ms=maybe(0, 100),
        load=maybe(0, 3),
        delivery=random.choice([None, 1.0, 0.5, 0.9, 0.9]),
        memory_bytes=random.choice([None, random.randint(0, 20 + 12 * layers)]),
        max_context=random.choice([None, 4, 8]),
    )


def mesh(random: Random, ties: bool = False) -> Mesh:
    layers, regions = random.randint(1, 7), random.randint(1, 3)
    return Mesh(
        layers=layers,
        nodes=tuple(node(random, place, layers, regions, ties) for place in range(random.randint(1, 6))),
        rtt_ms=tuple(
            tuple(random.choice([None, 0.0, 10.0, random.uniform(0, 100)]) for _ in range(regions))
            for _ in range(regions)
        ),
        hidden_bytes=random.randint(1, 4000),
        layer_bytes=5,
        kv_bytes=1,
        buffer_bytes=random.randint(0, 20),
    )


def ask(random: Random, nodes: tuple[Node, ...]) -> Ask:
    return Ask(
        requester=random.choice(nodes).id,
        prompt=random.randint(1, 20),
        reply=random.randint(1, 20),
        context=random.choice([3, 5, 7]),
        boomerang=random.random() < 0.4,
        warm={node.id: random.randint(0, 30) for node in nodes if random.random() < 0.3},
    )


def check(mesh: Mesh, ask: Ask) -> None:
    expected = reference.cheapest(mesh, ask)
    if expected is None:
        with pytest.raises(Unreachable):
            planner.plan_route(Columns(mesh), ask)
        return
    route = planner.plan_route(Columns(mesh), ask)
    cost, _, stages = expected
    assert [(stage.node, stage.layers.end) for stage in route.stages] == [(f"n{place}", end) for place, end in stages]
    assert route.exact and route.cost_ms == cost / 1e6


@given(st.integers(0, 1 << 40), st.booleans())
def test_the_route_is_the_best_of_all(seed: int, ties: bool) -> None:
    for step in range(5):  # half of them are refused, as they should be
        random = Random(seed + step)
        around = mesh(random, ties)
        check(around, ask(random, around.nodes))


@given(st.integers(0, 1 << 40), st.integers(1, 3))
def test_the_route_is_the_best_of_all_where_stages_are_few(seed: int, most: int) -> None:
    random = Random(seed)
    around = mesh(random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "MOST_STAGES", most)
        patch.setattr(reference, "MOST_STAGES", most)
        check(around, ask(random, around.nodes))


@given(st.integers(0, 1 << 40), st.booleans())
def test_the_route_is_the_best_of_all_where_a_fast_node_would_like_to_come_again(seed: int, ties: bool) -> None:
    """Room for a part of the layers only and cheap hops: the kernel's own chains repeat nodes here."""
    random = Random(seed)
    layers = random.randint(4, 7)
    nodes = tuple(
        Node(
            id=f"n{place}",
            ranges=((0, layers),),
            embedding=True,
            head=True,
            pool=True,
            region=random.randrange(2),
            access_ms=0.0 if ties else random.choice([0.0, 0.1]),
            up=1e6,
            down=1e6,
            prefill_ms=random.choice([0.1, 1.0, 1.0, 1.0 if ties else random.uniform(0, 5)]),
            decode_ms=1.0,
            memory_bytes=random.randint(1, 3),
        )
        for place in range(random.randint(3, 5))
    )
    around = Mesh(layers=layers, nodes=nodes, rtt_ms=((0.0, 0.0), (0.0, 0.0)), hidden_bytes=1, layer_bytes=1)
    check(around, Ask(requester="n0", prompt=10, reply=2, context=1))
