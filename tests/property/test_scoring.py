"""hali._native.scoring equals the plain definition, bit for bit, and its selection equals sorting."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hali._native import scoring


@dataclass(frozen=True)
class Candidate:
    """One row of the columns."""

    popularity: float
    holders: float
    average: float
    need: float
    local: float
    jitter: float
    marks: int


def rarity(candidate: Candidate, minimum: float) -> float:
    if candidate.holders <= 0:
        return 20.0
    if candidate.holders < minimum:
        return 10.0 / (candidate.holders + 1)
    return (candidate.average + 1) / (candidate.holders + 1)


def fitness(need: float, pool: float) -> float:
    if need <= 0:
        return 0.5
    return 1.0 if need <= pool else max(pool / need, 0.1)


def plain_score(candidate: Candidate, minimum: float, pool: float) -> float:
    """The acquisition score, written to be read."""
    if candidate.marks & scoring.PINNED_ELSEWHERE:
        return 0.0
    score = max(candidate.popularity, 1.0) * rarity(candidate, minimum)
    score *= 100.0 if candidate.marks & scoring.CONFIGURED else 1.0
    score *= 1000.0 if candidate.marks & scoring.PINNED_HERE else 1.0
    score *= fitness(candidate.need, pool)
    score *= max(1 - candidate.local, 0.05)
    score *= 1.5 if candidate.marks & scoring.SOURCE_NEAR else 1.0
    score *= 1.5 if candidate.marks & scoring.COMPLETES_CHAIN else 1.0
    return score + candidate.jitter


COUNT = st.integers(0, 10_000).map(float)
BYTES = st.integers(-1, 1 << 45).map(float)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        popularity=COUNT,
        holders=COUNT,
        average=st.floats(0, 1e4),
        need=BYTES,
        local=st.floats(0, 1),
        jitter=st.floats(0, 0.1),
        marks=st.integers(0, 31),
    ),
    max_size=60,
)


@given(CANDIDATES, COUNT, st.integers(0, 1 << 45).map(float))
def test_the_kernel_computes_what_the_definition_says(candidates: list[Candidate], minimum: float, pool: float) -> None:
    out = array("d", bytes(8 * len(candidates)))
    names = ("popularity", "holders", "average", "need", "local", "jitter")
    columns = [array("d", [getattr(candidate, name) for candidate in candidates]) for name in names]
    marks = bytes(candidate.marks for candidate in candidates)
    scoring.score_candidates(*columns, marks, out, region_minimum=minimum, pool_bytes=pool)
    assert list(out) == [plain_score(candidate, minimum, pool) for candidate in candidates]


SCORES = st.lists(st.one_of(st.sampled_from([0.0, 1.0, 2.0]), st.floats(-1, 1e6)), max_size=200)


@given(SCORES, st.integers(0, 220))
def test_the_selection_is_the_start_of_a_stable_sort(scores: list[float], k: int) -> None:
    ranked = sorted((row for row, score in enumerate(scores) if score > 0), key=lambda row: -scores[row])
    assert scoring.top_k(array("d", scores), k) == ranked[:k]
