"""Which chain of nodes answers a request the soonest: a mesh and a request in, a route out, and nothing else happens.

The cost of a chain in ms, over all passes of a request (one for the prompt, one for each further token):

    stage     (layers × (prefill × cold prompt tokens + decode × further tokens) × (1 + load) + queue) / delivery
    transfer  (passes × access delay + bytes / bandwidth) / delivery at each end, passes × half the round trip between
              the regions in the middle; nothing within a node

The first hidden state comes from the requester and the last goes back to it: ids, or with *boomerang* hidden states.
Both ends of a transfer are added, as for store and forward: a frame is checked whole before it is passed on. A loss is
laid to the node that lost, so the path between regions is not divided. Nodes outside the requester's pool cost
`OUTSIDE_POOL` times what they take: a preference that a much faster stranger can outweigh, unlike a strict order, which
would send a request through any pool member however slow.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec

from hali._native import planning
from hali.model.errors import Unreachable
from hali.pipeline.base import ServedModel
from hali.pipeline.chains import Chain, Found, Row, cheapest
from hali.pipeline.mesh import Ask, Columns, merged, row_arrays
from hali.pipeline.plan import LOCAL, LayerRange, Plan, Stage

MOST_STAGES = 8  # mesh.md: each hop costs a round trip for each token, and is one more that can fail
OUTSIDE_POOL = 1.5
ID_BYTES = 4


class RouteStage(msgspec.Struct, frozen=True):
    """One node running one layer range."""

    node: str
    layers: LayerRange


class Route(msgspec.Struct, frozen=True):
    """The stages in the order the hidden state passes them; no node comes twice.

    `cost_ms` is what was minimised, the preference for the pool included. `exact` is False in the rare mesh where the
    search was ended early: there may be a cheaper route.
    """

    stages: tuple[RouteStage, ...]
    cost_ms: float
    exact: bool = True


def plan_route(columns: Columns, ask: Ask) -> Route:
    """The cheapest route; of equals the one with fewer stages, then with earlier nodes and shorter first stages.

    Raises ValueError for a request that cannot be, `Unreachable` when no chain of these nodes can run the model.
    """
    mesh = columns.mesh
    if ask.requester not in columns.index:
        raise ValueError(f"requester {ask.requester} is not a node of this mesh")
    if ask.prompt < 1 or ask.reply < 1 or ask.context < 1:
        raise ValueError("a request has at least one token of prompt, reply and context")
    problem = _Problem(columns, ask)
    _check_ends(columns, ask)
    found = problem.cheapest()
    if found.chain is None:
        raise _unreachable(columns, problem.room, found.exact)
    stages = tuple(RouteStage(mesh.nodes[node].id, LayerRange(start, end)) for node, start, end in found.chain.stages)
    return Route(stages, found.chain.cost / 1e6, found.exact)


def as_plan(route: Route, model: ServedModel, requester: str) -> Plan:
    """The route as the plan of a model's file: the requester is called `LOCAL`, the last stage goes to the end."""
    last = len(route.stages) - 1
    return Plan(
        tuple(
            Stage(
                LOCAL if stage.node == requester else stage.node,
                LayerRange(stage.layers.start, None if place == last else stage.layers.end),
                model.sha256,
                model.path,
            )
            for place, stage in enumerate(route.stages)
        )
    )


class _Problem:
    """One request in the kernel's terms."""

    def __init__(self, columns: Columns, ask: Ask) -> None:
        mesh, n, regions = columns.mesh, len(columns.mesh.nodes), len(columns.mesh.rtt_ms)
        warm = array("d", bytes(8 * n))
        for node, tokens in ask.warm.items():
            if node in columns.index:
                warm[columns.index[node]] = tokens
        self.columns = columns
        self.prices = memoryview(bytearray(6 * 8 * n)).cast("q", (6, n))
        self.path = memoryview(bytearray(8 * regions * regions)).cast("q", (regions, regions))
        self.room = array("i", bytes(4 * n))
        planning.price(
            columns.measured,
            columns.rtt_ms,
            columns.region,
            columns.marks,
            warm,
            self.prices,
            self.path,
            self.room,
            requester=columns.index[ask.requester],
            layers=mesh.layers,
            prompt=ask.prompt,
            reply=ask.reply,
            context=ask.context,
            boomerang=ask.boomerang,
            hidden_bytes=mesh.hidden_bytes,
            id_bytes=ID_BYTES,
            layer_bytes=mesh.layer_bytes,
            kv_bytes=mesh.kv_bytes,
            buffer_bytes=mesh.buffer_bytes,
            outside_pool=OUTSIDE_POOL,
        )

    def cheapest(self) -> Found:
        return cheapest(self.solve, self.columns.rows)

    def solve(self, rows: Sequence[Row], exclusive: Sequence[int]) -> Chain | None:
        layers = self.columns.mesh.layers
        arrays = self.columns.row_arrays if rows is self.columns.rows else row_arrays(rows)
        found = planning.cheapest_chain(
            *arrays,
            self.columns.region,
            self.prices,
            self.path,
            self.room,
            layers=layers,
            most_stages=min(MOST_STAGES, layers),
            exclusive=exclusive,
        )
        return None if found is None else Chain(found[0], tuple(found[1]))


def _check_ends(columns: Columns, ask: Ask) -> None:
    """Somebody must have embedding and head: with boomerang, the requester."""
    who = [columns.mesh.nodes[columns.index[ask.requester]]] if ask.boomerang else columns.mesh.nodes
    missing = [name for name in ("embedding", "head") if not any(getattr(node, name) for node in who)]
    if missing:
        where = f"{ask.requester} does not hold" if ask.boomerang else "no node holds"
        raise Unreachable(
            f"{where} the {' and the '.join(missing)}",
            hint="Fetch these units here." if ask.boomerang else "Wait for a node that has them, or fetch them here.",
            details={"units": missing, "layers": []},
        )


def _unreachable(columns: Columns, room: Sequence[int], proven: bool) -> Unreachable:
    """Why there is no chain: layers that nobody holds, or nobody has room for, or only chains that are not allowed."""
    layers = columns.mesh.layers
    reasons = (
        ("no node holds layers {}", columns.rows, "Wait for a node that has them, or fetch them here."),
        (
            "no node has the memory or the context for layers {}",
            [row for row in columns.rows if room[row[0]] > 0],
            "Ask with a smaller context.",
        ),
    )
    for text, rows, hint in reasons:
        gaps = _gaps(rows, layers)
        if gaps:
            named = ", ".join(f"[{start}, {end})" for start, end in gaps)
            return Unreachable(
                text.format(named), hint=hint, details={"units": [], "layers": [list(gap) for gap in gaps]}
            )
    return Unreachable(
        f"every layer is held, but no chain of at most {MOST_STAGES} different nodes "
        + ("runs them all" if proven else "was found in the time for it"),
        hint="Hold longer ranges, or ask with a smaller context.",
        details={"units": [], "layers": []},
    )


def _gaps(rows: Sequence[Row], layers: int) -> list[tuple[int, int]]:
    """The layers that no row has."""
    gaps, at = [], 0
    for start, end in [*merged((start, end) for _, start, end in rows), (layers, layers)]:
        if at < start:
            gaps.append((at, start))
        at = end
    return gaps
