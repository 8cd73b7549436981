"""hali._native.scoring equals the plain definition (tests/reference_scoring.py), bit for bit."""

from __future__ import annotations

import math
from array import array
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali._native import scoring
from tests import reference_scoring as reference

# The loops go in blocks of 512 rows and in vectors of up to eight with a rest.
EDGES = (1, 7, 8, 9, 511, 512, 513, 1023, 1024, 1031)
SIZES = st.one_of(st.integers(0, 40), st.sampled_from(EDGES))
ODD = (math.nan, math.inf, -math.inf, -1.0, -0.0, 5e-324, 1e308, -1e308)
PRESSURES = st.one_of(st.floats(0, 1), st.sampled_from([math.nan, 0.5, 0.8, 0.95]))
# Values that stand on the limits of the formulas, so that a comparison that is off by one place shows.
LIMITS = (0.0, 0.1, 0.2, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 30.0, 60.0, 100.0, 1000.0)


def column(random: Random, rows: int, odd: float) -> array[float]:
    """Rows of ordinary numbers, limits, and with the probability `odd` what should not be there."""
    values = []
    for _ in range(rows):
        if random.random() < odd:
            values.append(random.choice(ODD))
        else:
            values.append(random.choice((random.choice(LIMITS), random.uniform(0, 12), float(random.randrange(50)))))
    return array("d", values)


def bits(values: array[float] | list[float]) -> list[bytes]:
    return [array("d", [value]).tobytes() for value in values]


@given(SIZES, st.integers(0, 1 << 32), st.floats(0, 12), st.floats(0, 100), st.sampled_from([0.0, 0.0, 0.02]))
def test_acquisition_is_what_the_definition_says(rows: int, seed: int, minimum: float, pool: float, odd: float) -> None:
    random = Random(seed)
    columns = [column(random, rows, odd) for _ in range(6)]
    marks = bytes(random.randrange(256) for _ in range(rows))
    out = array("d", [math.nan]) * rows
    expected = reference.score_candidates(*columns, marks, region_minimum=minimum, pool_bytes=pool)
    missing = sum(not math.isfinite(score) for score in expected)
    if missing:
        with pytest.raises(ValueError, match=f"^{missing} of {rows} scores are not finite"):
            scoring.score_candidates(*columns, marks, out, region_minimum=minimum, pool_bytes=pool)
    else:
        scoring.score_candidates(*columns, marks, out, region_minimum=minimum, pool_bytes=pool)
    assert bits(out) == bits(expected) or missing
    assert [math.isfinite(score) for score in out] == [math.isfinite(score) for score in expected]


def prunable(random: Random, rows: int, odd: float) -> tuple[list[array[float]], array[int]]:
    """Columns of which a good part is not blocked: each rule alone would otherwise hide behind the others."""
    columns = [column(random, rows, odd) for _ in range(7)]
    for values, likely in zip(columns, (9.0, 3.0, 4.0, 0.5, 90.0, 90.0, 1.0), strict=True):
        for row in range(rows):
            if random.random() < 0.7:
                values[row] = likely
    return columns, array(
        "H", [random.randrange(1 << 16) if random.random() < 0.1 else random.randrange(64) for _ in range(rows)]
    )


@given(SIZES, st.integers(0, 1 << 32), PRESSURES, st.sampled_from([0.0, 0.15, 0.3]), st.sampled_from([0.0, 0.1]))
def test_pruning_is_what_the_definition_says(
    rows: int, seed: int, pressure: float, schedule: float, odd: float
) -> None:
    columns, marks = prunable(Random(seed), rows, odd)
    out = array("d", [math.nan]) * rows
    scoring.prune_scores(*columns, marks, out, pressure=pressure, schedule=schedule)
    assert bits(out) == bits(reference.prune_scores(*columns, marks, pressure=pressure, schedule=schedule))


@given(st.integers(0, 1 << 32), st.integers(0, 6), PRESSURES)
def test_a_missing_measurement_never_makes_a_unit_easier_to_prune(seed: int, which: int, pressure: float) -> None:
    columns, marks = prunable(Random(seed), 20, 0.0)
    known, unknown = array("d", bytes(8 * 20)), array("d", bytes(8 * 20))
    scoring.prune_scores(*columns, marks, known, pressure=pressure)
    columns[which] = array("d", [math.nan]) * 20
    scoring.prune_scores(*columns, marks, unknown, pressure=pressure)
    assert all(without <= having for without, having in zip(unknown, known, strict=True))


SCORES = st.lists(
    st.one_of(st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf, -math.inf]), st.floats(-1, 1e6)), max_size=200
)


@given(SCORES, st.integers(0, 220), st.sampled_from([0.0, 1.0, -math.inf, math.inf]))
def test_the_selection_is_the_start_of_a_stable_sort(scores: list[float], k: int, above: float) -> None:
    assert scoring.top_k(array("d", scores), k, above=above) == reference.top_k(scores, k, above=above)


@given(st.sampled_from(EDGES), st.integers(0, 1 << 32), st.integers(1, 30), st.sampled_from([3, 1 << 30]))
def test_the_selection_looks_into_every_block(rows: int, seed: int, k: int, different: int) -> None:
    random = Random(seed)
    scores = [float(random.randrange(-1, different)) for _ in range(rows)]
    assert scoring.top_k(array("d", scores), k) == reference.top_k(scores, k)
