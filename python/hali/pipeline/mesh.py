"""What the planner knows: nodes as they were measured, one model, one request. Frozen values, and the same as columns.

A measurement that nobody has made is None. It counts as the worst that another node has (so a new node is used when it
is needed, and thereby measured); unknown memory or context never means "no room".
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from hali._native import planning

MOST_REGIONS = 32  # a layer looks at each pair of regions once, so these must stay few

# Where no node at all has a measurement. Equal for all, so they decide little: slow home computers on DSL.
ASSUMED = {"access_ms": 20.0, "up": 1e3, "down": 5e3, "prefill_ms": 5.0, "decode_ms": 5.0, "queue_ms": 0.0, "load": 0.0}
ASSUMED_DELIVERY = 1.0
ASSUMED_RTT_MS = 100.0


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, and what it holds of the model."""

    id: str
    ranges: tuple[tuple[int, int], ...] = ()
    """Layers held, [start, end) each, in any order; those that touch or overlap count as one."""
    embedding: bool = False
    head: bool = False
    pool: bool = False
    """Belongs to the requester's pool."""
    region: int = 0
    """Row of `Mesh.rtt_ms`."""
    access_ms: float | None = None
    """One way between the node and the middle of its region, as a network coordinate's height."""
    up: float | None = None
    """Bytes per ms that it can send; `down`: receive."""
    down: float | None = None
    prefill_ms: float | None = None
    """Per layer and prompt token; `decode_ms`: per layer and generated token."""
    decode_ms: float | None = None
    queue_ms: float | None = None
    """How long a request waits there before it begins."""
    load: float | None = None
    """Requests running; each takes as much time again (batching only makes that better)."""
    delivery: float | None = None
    """The part of what was asked of it that it delivered, 0 to 1."""
    memory_bytes: int | None = None
    """Free for this model: weights, KV cache, compute buffers."""
    max_context: int | None = None


class Mesh(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes around one model. Paths between two peers are never measured here, so they are put together from both
    access delays and the round trip between their regions."""

    layers: int
    nodes: tuple[Node, ...]
    rtt_ms: tuple[tuple[float | None, ...], ...]
    """Round trip from region to region, without the access delays."""
    hidden_bytes: int
    """Of one token's hidden state."""
    layer_bytes: int = 0
    """Weights of the largest layer; `kv_bytes`: KV cache of a layer and token; `buffer_bytes`: whatever else is loaded."""
    kv_bytes: int = 0
    buffer_bytes: int = 0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the planner sees it: counts of tokens, and who asks."""

    requester: str
    prompt: int
    reply: int
    context: int
    boomerang: bool = False
    """Embedding and head stay on the requester, so that nobody else sees text."""
    warm: Mapping[str, int] = {}
    """Tokens of the prompt that a node still has in its KV cache."""


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same layers as few ranges, ascending."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _filled(values: Sequence[float | None], worst: Callable[[Iterable[float]], float], assumed: float) -> list[float]:
    """Unknown ones taken as the worst known; a speed or ratio of 0 is a broken node, and no measure of the others."""
    if None not in values:
        return values  # type: ignore[return-value]  # just tested
    known = [value for value in values if value is not None and (value > 0 or worst is max)]
    unknown = worst(known) if known else assumed
    return [unknown if value is None else value for value in values]


class Columns:
    """A mesh read once, for any number of requests. Raises ValueError for what cannot be, naming the node."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        nodes = mesh.nodes
        self.index = {node.id: place for place, node in enumerate(nodes)}
        if not nodes or len(self.index) < len(nodes):
            raise ValueError("no nodes, or two of one id")
        self.rows = self._rows()
        self.row_arrays = row_arrays(self.rows)
        self.region = array("i", [node.region for node in nodes])
        self.marks = bytes(
            node.embedding * planning.HAS_EMBEDDING + node.head * planning.HAS_HEAD + node.pool * planning.IN_POOL
            for node in nodes
        )
        columns = [
            _filled([getattr(node, name) for node in nodes], min if name in ("up", "down") else max, assumed)
            for name, assumed in ASSUMED.items()
        ]
        columns.append(_filled([node.delivery for node in nodes], min, ASSUMED_DELIVERY))
        columns.append([math.nan if node.memory_bytes is None else node.memory_bytes for node in nodes])
        columns.append([math.nan if node.max_context is None else node.max_context for node in nodes])
        self.measured = matrix([value for column in columns for value in column], len(nodes))
        self.rtt_ms = self._rtt()

    def _rows(self) -> list[tuple[int, int, int]]:
        """Every held range as (node, start, end), by node and start."""
        rows = []
        for place, node in enumerate(self.mesh.nodes):
            for start, end in node.ranges if len(node.ranges) == 1 else merged(node.ranges):
                if not 0 <= start < end <= self.mesh.layers:
                    raise ValueError(f"{node.id}: [{start}, {end}) is no range of {self.mesh.layers} layers")
                rows.append((place, start, end))
        return rows

    def _rtt(self) -> memoryview[float]:
        table = self.mesh.rtt_ms
        if not 0 < len(table) <= MOST_REGIONS or any(len(line) != len(table) for line in table):
            raise ValueError(f"rtt_ms must be square, of 1 to {MOST_REGIONS} regions")
        return matrix(_filled([ms for line in table for ms in line], max, ASSUMED_RTT_MS), len(table))


def row_arrays(rows: Sequence[tuple[int, int, int]]) -> tuple[array[int], array[int], array[int]]:
    """Rows as the kernel takes them: nodes, starts, ends."""
    nodes, starts, ends = zip(*rows, strict=True) if rows else ((), (), ())
    return array("i", nodes), array("i", starts), array("i", ends)


def matrix(values: Iterable[float], width: int) -> memoryview[float]:
    """A table of float64 with that many columns, as the kernels take it."""
    flat = array("d", values)
    return memoryview(flat).cast("B").cast("d", (len(flat) // width, width))
