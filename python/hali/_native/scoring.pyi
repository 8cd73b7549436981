"""Scores of everything this node might acquire or prune, a million candidates in a few milliseconds.

A candidate is one unit (a layer, the embedding or the head) of one model. Columns are C-contiguous buffers of float64,
``marks`` of uint8 (acquisition) or uint16 (pruning): ``array.array``, memoryviews and NumPy arrays all do. A count,
load or time that nobody has measured is NaN. The same definitions in plain Python are in tests/reference_scoring.py;
results agree bit for bit on every machine.
"""

from typing import Final

from typing_extensions import Buffer

CONFIGURED: Final[int]
"""Mark: inside the range this node was told to hold; × 100."""
PINNED_HERE: Final[int]
"""Mark: pinned to this node; × 1,000."""
PINNED_ELSEWHERE: Final[int]
"""Mark: pinned to another node of the pool; the score is 0, whatever else holds."""
SOURCE_NEAR: Final[int]
"""Mark: a peer of this region can supply it; × 1.5."""
COMPLETES_CHAIN: Final[int]
"""Mark: with it the network can run the whole model; × 1.5."""

COLD: Final[int]
"""Prune mark: the model has gone without requests for as long as the settings call cold; + 1."""
ENDS_MODEL: Final[int]
"""Prune mark: the embedding, the head, or a layer next to them, which every chain needs; - 0.5."""
RAREST: Final[int]
"""Prune mark: no unit of the model has fewer holders; - 0.3."""
SURPLUS: Final[int]
"""Prune mark: the placement would not put it here; + 0.5."""
SPLITS_RANGE: Final[int]
"""Prune mark: both neighbours are held here, so dropping it makes two short ranges of a long one and costs each chain
through here a hop; - 0.5."""
ISLAND: Final[int]
"""Prune mark: neither neighbour is held here, so it serves a chain for one layer at the price of a hop; + 0.5."""

KEEP_LOCKED: Final[int]
"""Block: locked by its owner."""
KEEP_POOL_PINNED: Final[int]
"""Block: pinned to this node by the pool."""
KEEP_USER_PINNED: Final[int]
"""Block: its model is pinned by the user."""
KEEP_CONFIGURED: Final[int]
"""Block: inside the range this node was told to hold."""
KEEP_DOWNLOADING: Final[int]
"""Block: it or another unit of its model is being fetched."""
KEEP_RUNNING: Final[int]
"""Block: a stage that runs now uses it."""
KEEP_ENCRYPTED: Final[int]
"""Block: its model serves encrypted pipelines."""
KEEP_NO_SOURCE: Final[int]
"""Block: nobody is known who could supply it again."""
KEEP_COOLING_DOWN: Final[int]
"""Block: a unit of its model was pruned less than 300 s ago, and the network has not seen it yet."""
KEEP_LAST_CHAIN: Final[int]
"""Block: without it no chain of nodes near each other can run the whole model. Replicas are counted by unit; a model
runs in chains."""

def score_candidates(
    popularity: Buffer,
    region_holders: Buffer,
    region_average: Buffer,
    need_bytes: Buffer,
    local_fraction: Buffer,
    jitter: Buffer,
    marks: Buffer,
    out: Buffer,
    *,
    region_minimum: float,
    pool_bytes: float,
) -> None:
    """Write the acquisition score of each candidate into ``out`` (float64, writable).

    ``score = popularity × rarity × fitness × spread × (configured × pin × source × chain) + jitter``

    - popularity: distinct holders of the model, at least 1
    - rarity: 20 where nobody in the region holds the unit; 10 / (holders + 1) below ``region_minimum``; otherwise
      (region_average + 1) / (holders + 1), the average being over the model's units
    - fitness: 1 where ``need_bytes`` (the model's memory) fits ``pool_bytes``, otherwise their ratio, at least 0.1;
      0.5 where the need is unknown (0, negative or NaN)
    - spread: 1 - ``local_fraction`` (the part of the model already here), at least 0.05
    - configured, pin, source, chain: from ``marks``
    - jitter: breaks ties between nodes, so that not all of them fetch the same unit; meant to be below 0.1

    Raises ValueError when columns differ in length or a score is NaN or infinite.
    """

def prune_scores(
    holders: Buffer,
    target: Buffer,
    near_holders: Buffer,
    demand: Buffer,
    acquired_minutes: Buffer,
    requested_minutes: Buffer,
    others_load: Buffer,
    marks: Buffer,
    out: Buffer,
    *,
    pressure: float,
    schedule: float = 0.0,
) -> None:
    """Write into ``out`` how readily each unit held here may go: the highest first, -inf never.

    ``score = marks + holders / target + abundance + 0.5 × (pressure + schedule) - young - demand - requested``

    - holders: live holders in the network, this node included; ``target``: replicas wanted, at least 1
    - abundance: 1 where holders ≥ 2 × target
    - pressure: the fuller of disk and GPU memory, 0 to 1; NaN (unknown) counts as none. schedule: 0, or what the hour
      adds (0.15 ordinarily, 0.3 when it is to be aggressive)
    - young: 0.2 within 30 ``acquired_minutes``: what came a moment ago was wanted a moment ago
    - demand: requests of the region in 10 minutes, smoothed: 1 above 10, 0.5 above 1, 0.2 above 0.1
    - requested: 1.5 within 60 ``requested_minutes`` of the last request this node ran; inf where it never ran one
    - marks: ``COLD`` to ``ISLAND``, added up

    -inf, whatever the rest says, for

    - any ``KEEP_`` mark
    - holders not above what is kept: target + 1 below a pressure of 0.5, target to 0.8, target - 1 to 0.95, target - 2
      beyond; never fewer than 2, since the last copy but one is no surplus
    - fewer than 2 ``near_holders``: others that answer within 200 ms, as measured here
    - a request less than 5 minutes ago
    - ``others_load``, the mean number of requests running at the other holders, above 3: they need this one's help
    - whatever of these is NaN, or cannot be (a negative load, infinite holders, a target below 1)

    An unknown acquisition time or demand counts as the most protective one. A score may be negative: select with
    ``top_k(..., above=-inf)`` or a threshold.

    Raises ValueError when columns differ in length, the pressure is outside 0 to 1, or the schedule is not finite.
    """

def top_k(scores: Buffer, k: int, *, above: float = 0.0) -> list[int]:
    """Rows of the ``k`` largest scores greater than ``above``, best first; of equal ones the earlier row first.

    NaN and what is at ``above`` are never among them, so -inf selects all but what is blocked. Raises ValueError when
    ``above`` is NaN.
    """
