"""Prices of nodes, and the cheapest chain of stages over (node, layer), for hali.pipeline.planner.

Buffers are C-contiguous: float64 (format d), int64 (q), int32 (i), uint8 (B). Prices are whole nanoseconds; the largest
int64 stands for "not possible", and so does whatever takes more than 35e12 (ten hours).
"""

from collections.abc import Sequence
from typing import Final

from typing_extensions import Buffer

MOST_LAYERS: Final[int]
"""Of a model: as many stages as that can be counted."""
MOST_EXCLUSIVE: Final[int]
"""Exclusive nodes; each doubles time and memory."""
HAS_EMBEDDING: Final[int]
"""Mark: may run the first layer, where text becomes hidden states."""
HAS_HEAD: Final[int]
"""Mark: may run the last layer, where hidden states become ids."""
IN_POOL: Final[int]
"""Mark: of the requester's pool, so not multiplied by ``outside_pool``."""

def price(
    measured: Buffer,
    rtt_ms: Buffer,
    region: Buffer,
    marks: Buffer,
    warm_tokens: Buffer,
    prices: Buffer,
    path: Buffer,
    most: Buffer,
    *,
    requester: int,
    layers: int,
    prompt: int,
    reply: int,
    context: int,
    boomerang: bool,
    hidden_bytes: float,
    id_bytes: float,
    layer_bytes: float,
    kv_bytes: float,
    buffer_bytes: float,
    outside_pool: float,
) -> None:
    """Turn measurements into what a request costs at each of n nodes, and between r regions.

    Reads ``measured`` (float64, 10 × n): access delay one way in ms, bytes per ms up, and down, prefill and decode in ms
    per layer and token, queue in ms, load, delivery ratio, free memory in bytes (NaN: unknown), most tokens of context
    (NaN: unknown); ``rtt_ms`` (float64, r × r); ``region`` (int32, n); ``marks`` (uint8, n); ``warm_tokens`` (float64, n).
    A NaN elsewhere, or what comes out negative, makes the price "not possible".

    Writes ``prices`` (int64, 6 × n): per layer, fixed, entering from another node, leaving to another node, beginning
    a chain (from the requester), ending one (to the requester); ``path`` (int64, r × r): from region to region, one
    way, for all passes; ``most`` (int32, n): how many layers fit memory and context.

    Raises ValueError when columns differ in length or a number is out of range.
    """

def cheapest_chain(
    row_node: Buffer,
    row_start: Buffer,
    row_end: Buffer,
    region: Buffer,
    prices: Buffer,
    path: Buffer,
    most: Buffer,
    *,
    layers: int,
    most_stages: int,
    exclusive: Sequence[int] = (),
) -> tuple[int, list[tuple[int, int, int]]] | None:
    """The cheapest chain of stages (node, start, end) over all layers, and its cost in ns; None where there is none.

    A row (int32 each) is a range that a node holds, ordered by node and start, apart from each other. A stage is any part
    of one row, at most ``most[node]`` layers. A node never follows itself, and an ``exclusive`` one never comes again; any
    other may, after another node. Of equal chains: fewer stages, then the lower first node, then its nearer end, then
    the same for the second.

    Takes O(layers × (rows + regions²)), twice that for each exclusive node, and ``most_stages`` times only where the
    cheapest chain would have more stages than those. Raises ValueError for rows or columns that do not fit together.
    """
