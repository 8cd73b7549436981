"""Scores of everything this node might acquire, a million candidates in a few milliseconds.

A candidate is one unit (a layer, the embedding or the head) of one model. Columns are C-contiguous buffers of float64,
``marks`` of bytes: ``array.array``, memoryviews and NumPy arrays all do.
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

    ``score = popularity × rarity × configured × pin × fitness × spread × source × chain + jitter``

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

def top_k(scores: Buffer, k: int) -> list[int]:
    """Rows of the ``k`` largest scores above zero, best first; of equal ones the earlier row first."""
