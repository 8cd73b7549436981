"""The planner, by numbers one can do in one's head: each term of the cost, each ceiling and each refusal by itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hali.model.errors import Refused, Unreachable, from_wire
from hali.pipeline import chains, planner
from hali.pipeline.mesh import MOST_REGIONS, Ask, Columns, Mesh, Node, merged
from hali.pipeline.plan import LOCAL
from hali.pipeline.planner import Route, as_plan, plan_route

HIDDEN = 1000  # bytes of one hidden state: at 1000 bytes per ms, 1 ms a token


def node(name: str, *ranges: tuple[int, int], **changed: Any) -> Node:
    """Ten layers; in the pool; delivers all; 1 ms per layer and token; transfers take no time unless said."""
    made = Node(
        id=name,
        ranges=ranges or ((0, 10),),
        embedding=True,
        head=True,
        pool=True,
        access_ms=0.0,
        up=1e18,
        down=1e18,
        prefill_ms=1.0,
        decode_ms=1.0,
        queue_ms=0.0,
        load=0.0,
        delivery=1.0,
    )
    return msgspec.structs.replace(made, **changed)


ME = node("me", embedding=False, head=False, prefill_ms=1e9)
"""The requester: holds layers, but would take weeks."""


def mesh(*nodes: Node, **changed: Any) -> Mesh:
    return msgspec.structs.replace(
        Mesh(layers=10, nodes=(ME, *nodes), rtt_ms=((0.0, 40.0), (40.0, 0.0)), hidden_bytes=HIDDEN), **changed
    )


def route(around: Mesh, **changed: Any) -> Route:
    asked = Ask(requester="me", prompt=1, reply=1, context=100)
    return plan_route(Columns(around), msgspec.structs.replace(asked, **changed))


def stages(found: Route) -> list[tuple[str, int, int | None]]:
    return [(stage.node, stage.layers.start, stage.layers.end) for stage in found.stages]


def test_one_node_that_holds_all_is_one_stage_and_costs_its_compute() -> None:
    found = route(mesh(node("a")))
    assert stages(found) == [("a", 0, 10)]
    assert found.cost_ms == 10.0


@pytest.mark.parametrize(
    ("changed", "asked", "cost"),
    [
        ({}, {"prompt": 3}, 30),
        ({}, {"reply": 3}, 30),  # one pass for the prompt, two more
        ({"prefill_ms": 2.0}, {"prompt": 2, "reply": 2}, 50),
        ({"decode_ms": 2.0}, {"prompt": 2, "reply": 2}, 40),
        ({"queue_ms": 7.0}, {}, 17),
        ({"load": 1.0}, {}, 20),
        ({"delivery": 0.5}, {}, 20),
        ({"pool": False}, {}, 15),
        ({"access_ms": 3.0}, {}, 16),  # there and back
        ({"access_ms": 3.0}, {"reply": 2}, 32),
        ({"region": 1}, {}, 50),  # a whole round trip of 40
        ({"down": 1.0}, {"prompt": 2}, 28),  # 8 bytes of ids in
        ({"up": 1.0}, {"prompt": 2}, 24),  # 4 bytes of ids out
    ],
    ids=str,
)
def test_each_term_of_the_cost(changed: dict[str, Any], asked: dict[str, Any], cost: float) -> None:
    assert route(mesh(node("a", **changed)), **asked).cost_ms == cost


def test_a_warm_prefix_is_not_computed_again() -> None:
    around = mesh(node("a"), node("b", prefill_ms=0.75))
    assert stages(route(around, prompt=10)) == [("b", 0, 10)]
    warm = route(around, prompt=10, warm={"a": 8, "unheard of": 10})
    assert (stages(warm), warm.cost_ms) == ([("a", 0, 10)], 20.0)


def test_a_transfer_between_stages_costs_both_ends_and_the_way() -> None:
    a, b = node("a", (0, 4), up=1000.0, access_ms=3.0), node("b", (4, 10), down=500.0, region=1)
    # compute; 1 ms out and 2 in for one hidden state; a's access twice; the way to b, and from b to the requester
    assert route(mesh(a, b)).cost_ms == 10 + 1 + 2 + (3 + 3) + (20 + 20)


def test_a_stranger_is_taken_when_half_as_slow_again_would_not_do() -> None:
    def chosen(prefill_ms: float) -> str:
        return route(mesh(node("ours"), node("theirs", pool=False, prefill_ms=prefill_ms))).stages[0].node

    assert (chosen(0.7), chosen(0.6)) == ("ours", "theirs")


def test_the_requester_costs_no_transfer_and_no_preference() -> None:
    me = node("me", pool=False, access_ms=50.0, up=1.0, down=1.0)
    found = plan_route(
        Columns(mesh(node("a"), nodes=(me, node("a", access_ms=1.0)))),
        Ask(requester="me", prompt=1, reply=1, context=1),
    )
    assert (stages(found), found.cost_ms) == ([("me", 0, 10)], 10.0)


def test_ranges_that_touch_or_overlap_are_one_stage() -> None:
    assert stages(route(mesh(node("a", (5, 10), (0, 5))))) == [("a", 0, 10)]
    assert merged([(4, 9), (0, 5), (9, 10), (12, 13)]) == [(0, 10), (12, 13)]


def test_memory_limits_the_layers_of_a_stage_at_the_asked_context() -> None:
    # 10 bytes a layer and 1 for each token of context; 100 for buffers: 560 bytes are room for 4 layers of 100 tokens
    sizes = {"layer_bytes": 10, "kv_bytes": 1, "buffer_bytes": 100}
    around = mesh(node("a", memory_bytes=560), node("b", prefill_ms=2.0), **sizes)
    assert [stage.layers.end for stage in route(around).stages] == [4, 10]
    assert stages(route(around, context=590)) == [("b", 0, 10)]  # a has no room for a layer
    assert stages(route(around, context=36)) == [("a", 0, 10)]


def test_unknown_memory_and_context_never_mean_no_room() -> None:
    assert stages(route(mesh(node("a"), layer_bytes=1 << 40), context=1 << 20)) == [("a", 0, 10)]


def test_a_node_with_too_small_a_context_is_left_out() -> None:
    around = mesh(node("a", max_context=99), node("b", prefill_ms=2.0, max_context=100))
    assert stages(route(around)) == [("b", 0, 10)]


def test_an_unmeasured_node_counts_as_the_worst_one() -> None:
    around = mesh(node("a", prefill_ms=None, pool=False), node("b", prefill_ms=2e9))
    with pytest.raises(Unreachable):  # as slow as b, for weeks
        route(around)


def test_a_node_that_never_delivers_is_left_out_and_says_nothing_about_others() -> None:
    around = mesh(node("a", delivery=0.0), node("b", up=0.0), node("c", delivery=None, up=None, prefill_ms=2.0))
    assert stages(route(around)) == [("c", 0, 10)]


def test_of_equal_routes_the_one_with_fewer_stages_then_earlier_nodes_is_taken() -> None:
    assert stages(route(mesh(node("a", (0, 4)), node("b", (4, 10)), node("c"), node("d")))) == [("c", 0, 10)]
    cut = route(mesh(node("a", (0, 7)), node("b", (3, 10))))
    assert stages(cut) == [("a", 0, 3), ("b", 3, 10)]


def test_there_are_at_most_eight_stages() -> None:
    def split(parts: int) -> tuple[Node, ...]:
        return tuple(node(f"n{i}", (i, i + 1 if i < parts - 1 else 10)) for i in range(parts))

    assert len(route(mesh(*split(8))).stages) == planner.MOST_STAGES
    with pytest.raises(Unreachable, match="no chain of at most 8 different nodes"):
        route(mesh(*split(9)))
    slow = node("slow", (0, 2), prefill_ms=3.0)
    assert stages(route(mesh(*split(9), slow)))[0] == ("slow", 0, 2)


def test_a_node_does_not_come_twice() -> None:
    fast, slow = node("fast", (0, 3), (6, 10)), node("slow", (3, 10), prefill_ms=2.0)
    assert stages(route(mesh(fast, slow))) == [("fast", 0, 3), ("slow", 3, 10)]
    with pytest.raises(Unreachable, match="different nodes"):
        route(mesh(fast, node("middle", (3, 6))))


def test_when_there_is_no_time_the_route_is_still_one_without_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = [node(f"f{i}", memory_bytes=3, prefill_ms=0.1) for i in range(2)]
    around = mesh(*fast, node("slow"), layer_bytes=1)
    best = route(around)
    monkeypatch.setattr(chains, "MOST_LOOKS", 0)
    soon = route(around)
    assert best.exact and not soon.exact and soon.cost_ms >= best.cost_ms
    assert len({stage.node for stage in soon.stages}) == len(soon.stages)


def test_boomerang_keeps_both_ends_on_the_requester_and_pays_for_hidden_states() -> None:
    blind = node("blind", embedding=False, head=False, down=1000.0, up=500.0)
    me = msgspec.structs.replace(ME, embedding=True, head=True)
    around = mesh(nodes=(me, blind))
    assert route(around, boomerang=True).cost_ms == 10 + 1 + 2
    with pytest.raises(Unreachable):  # only the requester, who would take weeks, may begin and end
        route(around)


@pytest.mark.parametrize(
    ("nodes", "asked", "units", "layers", "text"),
    [
        ((node("a", (0, 3), (5, 9)),), {}, [], [[3, 5], [9, 10]], r"no node holds layers \[3, 5\), \[9, 10\)"),
        ((node("a", max_context=50),), {}, [], [[0, 10]], r"memory or the context for layers \[0, 10\)"),
        ((node("a", head=False),), {}, ["head"], [], "no node holds the head"),
        ((node("a"),), {"boomerang": True}, ["embedding", "head"], [], "me does not hold the embedding and the head"),
    ],
)
def test_a_refusal_says_what_is_missing(
    nodes: tuple[Node, ...], asked: dict[str, Any], units: list[str], layers: list[list[int]], text: str
) -> None:
    me = msgspec.structs.replace(ME, ranges=())
    with pytest.raises(Unreachable, match=text) as refused:
        route(mesh(nodes=(me, *nodes)), **asked)
    assert refused.value.details == {"units": units, "layers": layers}
    told = from_wire(refused.value.to_wire())
    assert isinstance(told, Refused) and told.retryable and told.code == "unreachable" and told.hint


@pytest.mark.parametrize("wrong", [{"requester": "nobody"}, {"prompt": 0}, {"reply": 0}, {"context": 0}], ids=str)
def test_a_request_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        route(mesh(node("a")), **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": ()},
        {"nodes": (ME, ME)},
        {"nodes": (ME, node("a", (5, 11)))},
        {"nodes": (ME, node("a", (5, 5)))},
        {"nodes": (ME, node("a", (-1, 5), (7, 8)))},
        {"rtt_ms": ((0.0, 1.0),)},
        {"rtt_ms": ((0.0,) * (MOST_REGIONS + 1),) * (MOST_REGIONS + 1)},
    ],
    ids=str,
)
def test_a_mesh_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Columns(mesh(**wrong))


def test_a_node_in_a_region_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="in region 2 of 2"):
        route(mesh(node("a", region=2)))


def test_a_route_is_a_plan_of_the_file(model: Any) -> None:
    found = route(mesh(node("a", (0, 4)), nodes=(node("me", (4, 10)), node("a", (0, 4)))))
    plan = as_plan(found, model, "me")
    assert [(stage.node, stage.layers.start, stage.layers.end) for stage in plan.stages] == [
        ("a", 0, 4),
        (LOCAL, 4, None),
    ]
    assert plan.stages[0].sha256 == model.sha256
