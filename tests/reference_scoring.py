"""The auto-shard scores written to be read: what `hali._native.scoring` must equal, bit for bit.

The property tests compare with it and `bench/micro/test_scoring_bench.py` times it, so it is also as quick as plain
Python gets without being clever: columns in, one list out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hali._native import scoring

Column = Sequence[float]


def rarity(holders: float, average: float, minimum: float) -> float:
    if holders <= 0:
        return 20.0
    return (10.0 if holders < minimum else average + 1.0) / (holders + 1.0)


def fitness(need: float, pool: float) -> float:
    if not need > 0:
        return 0.5
    if need <= pool:
        return 1.0
    share = pool / need
    return share if share > 0.1 else 0.1


def factor(marks: int) -> float:
    """What the marks multiply by; -1 says that nothing else counts."""
    if marks & scoring.PINNED_ELSEWHERE:
        return -1.0
    product = 100.0 if marks & scoring.CONFIGURED else 1.0
    product *= 1000.0 if marks & scoring.PINNED_HERE else 1.0
    product *= 1.5 if marks & scoring.SOURCE_NEAR else 1.0
    product *= 1.5 if marks & scoring.COMPLETES_CHAIN else 1.0
    return product


FACTORS = [factor(marks) for marks in range(256)]


def score_candidates(
    popularity: Column,
    region_holders: Column,
    region_average: Column,
    need_bytes: Column,
    local_fraction: Column,
    jitter: Column,
    marks: Sequence[int],
    *,
    region_minimum: float,
    pool_bytes: float,
) -> list[float]:
    """One score a row; a row with a missing number gives one that is not finite."""
    scores = []
    for known, holders, average, need, local, noise, mark in zip(
        popularity, region_holders, region_average, need_bytes, local_fraction, jitter, marks, strict=True
    ):
        spread = 1.0 - local
        score = 1.0 if known < 1.0 else known
        score *= rarity(holders, average, region_minimum)
        score *= fitness(need, pool_bytes)
        score *= 0.05 if spread < 0.05 else spread
        score = score * FACTORS[mark] + noise
        scores.append(score - score if FACTORS[mark] < 0.0 else score)
    return scores


def term(marks: int) -> float:
    """What the marks add; -inf when one of them is a block."""
    if marks > 63:
        return -math.inf
    total = 1.0 if marks & scoring.COLD else 0.0
    total -= 0.5 if marks & scoring.ENDS_MODEL else 0.0
    total -= 0.3 if marks & scoring.RAREST else 0.0
    total += 0.5 if marks & scoring.SURPLUS else 0.0
    total -= 0.5 if marks & scoring.SPLITS_RANGE else 0.0
    total += 0.5 if marks & scoring.ISLAND else 0.0
    return total


TERMS = [term(marks) for marks in range(1 << 16)]


def margin(pressure: float) -> float:
    """Replicas kept above the target."""
    if pressure > 0.95:
        return -2.0
    if pressure > 0.8:
        return -1.0
    return 0.0 if pressure >= 0.5 else 1.0


def prune_scores(
    holders: Column,
    target: Column,
    near_holders: Column,
    demand: Column,
    acquired_minutes: Column,
    requested_minutes: Column,
    others_load: Column,
    marks: Sequence[int],
    *,
    pressure: float,
    schedule: float = 0.0,
) -> list[float]:
    """One score a row, -inf for what must stay. Each test asks for what allows; NaN allows nothing."""
    extra = margin(pressure)
    urgency = 0.5 * ((0.0 if math.isnan(pressure) else pressure) + schedule)
    scores = []
    for held, wanted, near, asked, acquired, requested, load, mark in zip(
        holders, target, near_holders, demand, acquired_minutes, requested_minutes, others_load, marks, strict=True
    ):
        score = TERMS[mark]
        if not (
            score > -math.inf
            and wanted >= 1.0
            and max(2.0, wanted + extra) < held < math.inf
            and near >= 2.0
            and requested >= 5.0
            and 0.0 <= load <= 3.0
        ):
            scores.append(-math.inf)
            continue
        score += held / wanted
        score += 1.0 if held >= 2.0 * wanted else 0.0
        score += urgency
        score -= 0.0 if acquired >= 30.0 else 0.2
        score -= 0.0 if asked <= 0.1 else 0.2 if asked <= 1.0 else 0.5 if asked <= 10.0 else 1.0
        score -= 0.0 if requested >= 60.0 else 1.5
        scores.append(score)
    return scores


def top_k(scores: Column, k: int, *, above: float = 0.0) -> list[int]:
    """The start of a stable sort of the rows that count."""
    rows = [row for row, score in enumerate(scores) if score > above]
    return sorted(rows, key=lambda row: -scores[row])[: max(k, 0)]
