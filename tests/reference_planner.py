"""The planner's cost model and search written to be read: every chain is tried. Times are whole nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from hali.pipeline.mesh import ASSUMED, ASSUMED_DELIVERY, ASSUMED_RTT_MS, Ask, Mesh, Node
from hali.pipeline.planner import ID_BYTES, MOST_STAGES, OUTSIDE_POOL

Rank = tuple[int, int, tuple[tuple[int, int], ...]]


def ns(ms: float) -> int:
    return round(ms * 1e6)


class Prices(NamedTuple):
    """What one request costs at one node, and how many layers it may run."""

    per_layer: int
    fixed: int
    enter: int
    leave: int
    first: int
    last: int
    room: float


def known(mesh: Mesh, node: Node, name: str) -> float:
    """The measurement, or the worst of all nodes."""
    value = getattr(node, name)
    others = [getattr(other, name) for other in mesh.nodes if getattr(other, name) is not None]
    if value is not None:
        return float(value)
    worst = max
    if name in ("up", "down", "delivery"):
        worst, others = min, [other for other in others if other > 0]
    return float(worst(others)) if others else {**ASSUMED, "delivery": ASSUMED_DELIVERY}[name]


def path(mesh: Mesh, ask: Ask, here: int, there: int) -> int:
    rtt = mesh.rtt_ms[here][there]
    if rtt is None:
        rtt = max((ms for line in mesh.rtt_ms for ms in line if ms is not None), default=ASSUMED_RTT_MS)
    return ns(ask.reply * rtt / 2.0)


def prices(mesh: Mesh, ask: Ask, node: Node) -> Prices:
    asker = next(other for other in mesh.nodes if other.id == ask.requester)
    share = 1.0 / known(mesh, node, "delivery")
    if not node.pool and node is not asker:
        share *= OUTSIDE_POOL
    tokens = ask.prompt + ask.reply - 1
    outward, back = (
        (mesh.hidden_bytes if ask.boomerang else ID_BYTES) * tokens,
        ask.reply * (mesh.hidden_bytes if ask.boomerang else ID_BYTES),
    )
    up, down, access = known(mesh, node, "up"), known(mesh, node, "down"), ask.reply * known(mesh, node, "access_ms")
    their_access = ask.reply * known(mesh, asker, "access_ms")
    work = known(mesh, node, "prefill_ms") * max(ask.prompt - ask.warm.get(node.id, 0), 0)
    work += known(mesh, node, "decode_ms") * (ask.reply - 1)
    first = last = 0
    if node is not asker:
        first = ns(their_access + outward / known(mesh, asker, "up"))
        first += path(mesh, ask, asker.region, node.region) + ns((access + outward / down) * share)
        last = ns((access + back / up) * share) + path(mesh, ask, node.region, asker.region)
        last += ns(their_access + back / known(mesh, asker, "down"))
    room = math.inf
    if node.memory_bytes is not None:
        room = (node.memory_bytes - mesh.buffer_bytes) // (mesh.layer_bytes + ask.context * mesh.kv_bytes)
    if node.max_context is not None and node.max_context < ask.context:
        room = 0
    return Prices(
        per_layer=ns(work * (1.0 + known(mesh, node, "load")) * share),
        fixed=ns(known(mesh, node, "queue_ms") * share),
        enter=ns((access + tokens * mesh.hidden_bytes / down) * share),
        leave=ns((access + tokens * mesh.hidden_bytes / up) * share),
        first=first,
        last=last,
        room=room,
    )


def chains(mesh: Mesh, room: list[float], used: tuple[int, ...], at: int) -> Iterator[list[tuple[int, int, int]]]:
    """Every way on from layer `at`: stages (node, start, end), no node twice."""
    if at == mesh.layers:
        yield []
        return
    if len(used) == MOST_STAGES:
        return
    for place, node in enumerate(mesh.nodes):
        if place in used:
            continue
        held = {layer for start, end in node.ranges for layer in range(start, end)}
        end = at
        while end in held and end - at < room[place]:
            end += 1
            for rest in chains(mesh, room, (*used, place), end):
                yield [(place, at, end), *rest]


def cheapest(mesh: Mesh, ask: Ask) -> Rank | None:
    """The best of all chains: cost, number of stages, (node, end) of each."""
    table = [prices(mesh, ask, node) for node in mesh.nodes]
    asker = next(node for node in mesh.nodes if node.id == ask.requester)
    if ask.boomerang and not (asker.embedding and asker.head):
        return None
    best: Rank | None = None
    for stages in chains(mesh, [price.room for price in table], (), 0):
        (begin, _, _), (finish, _, _) = stages[0], stages[-1]
        if not ask.boomerang and not (mesh.nodes[begin].embedding and mesh.nodes[finish].head):
            continue
        cost = table[begin].first + table[finish].last
        cost += sum(table[node].per_layer * (end - start) + table[node].fixed for node, start, end in stages)
        for (a, _, _), (b, _, _) in pairwise(stages):
            cost += table[a].leave + path(mesh, ask, mesh.nodes[a].region, mesh.nodes[b].region) + table[b].enter
        rank = cost, len(stages), tuple((node, end) for node, _, end in stages)
        best = rank if best is None else min(best, rank)
    return best
