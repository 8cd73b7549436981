"""hali._native.scoring, acquisition and selection: each factor by itself, with numbers one can do in one's head."""

from __future__ import annotations

import math
from array import array

import pytest

from hali._native import scoring


def score(
    *,
    popularity: float = 1.0,
    holders: float = 3.0,
    average: float = 3.0,
    need: float = 1.0,
    local: float = 0.0,
    jitter: float = 0.0,
    marks: int = 0,
) -> float:
    """One candidate; as given here, every factor is 1."""
    out = array("d", [math.nan])
    columns = [array("d", [value]) for value in (popularity, holders, average, need, local, jitter)]
    scoring.score_candidates(*columns, bytes([marks]), out, region_minimum=2.0, pool_bytes=100.0)
    return out[0]


def test_a_candidate_with_nothing_special_scores_one() -> None:
    assert score() == 1.0


@pytest.mark.parametrize(("holders", "factor"), [(0, 1), (1, 1), (7, 7)])
def test_popularity_counts_holders_and_at_least_one(holders: float, factor: float) -> None:
    assert score(popularity=holders) == factor


@pytest.mark.parametrize(("holders", "average", "factor"), [(0, 0, 20), (0, 9, 20), (1, 9, 5), (2, 5, 2), (5, 2, 0.5)])
def test_what_the_region_lacks_is_worth_more(holders: float, average: float, factor: float) -> None:
    assert score(holders=holders, average=average) == factor


@pytest.mark.parametrize(
    ("need", "factor"),
    [(100, 1), (101, 100 / 101), (200, 0.5), (100_000, 0.1), (math.inf, 0.1), (0, 0.5), (-1, 0.5), (math.nan, 0.5)],
)
def test_a_model_larger_than_the_pool_is_worth_less_and_an_unknown_one_half(need: float, factor: float) -> None:
    assert score(need=need) == factor


@pytest.mark.parametrize(("local", "factor"), [(0.25, 0.75), (0.95, 0.05), (1.0, 0.05)])
def test_the_more_of_a_model_is_here_the_less_the_next_unit_is_worth(local: float, factor: float) -> None:
    assert score(local=local) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("marks", "factor"),
    [
        (scoring.CONFIGURED, 100),
        (scoring.PINNED_HERE, 1000),
        (scoring.SOURCE_NEAR, 1.5),
        (scoring.COMPLETES_CHAIN, 1.5),
        (scoring.SOURCE_NEAR | scoring.COMPLETES_CHAIN, 2.25),
    ],
)
def test_marks_multiply(marks: int, factor: float) -> None:
    assert score(marks=marks) == factor


def test_jitter_is_added_and_not_multiplied() -> None:
    assert score(popularity=1000, jitter=0.0625) == 1000.0625


def test_what_is_pinned_elsewhere_scores_nothing_at_all() -> None:
    assert score(popularity=1000, jitter=0.09, marks=scoring.PINNED_ELSEWHERE | scoring.PINNED_HERE) == 0.0


@pytest.mark.parametrize("column", ["popularity", "holders", "local", "jitter"])
def test_a_missing_number_is_an_error_and_not_a_score(column: str) -> None:
    with pytest.raises(ValueError, match="1 of 1 scores are not finite"):
        score(**{column: math.nan})


def test_columns_of_different_length_are_refused() -> None:
    full, short, out = array("d", [1.0, 1.0]), array("d", [1.0]), array("d", [0.0, 0.0])
    with pytest.raises(ValueError, match="differ in length"):
        scoring.score_candidates(full, full, short, full, full, full, b"\0\0", out, region_minimum=2.0, pool_bytes=1.0)


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        scoring.top_k(array("f", [1.0]), 1)


def test_no_candidates_are_no_error() -> None:
    none = array("d")
    scoring.score_candidates(none, none, none, none, none, none, b"", none, region_minimum=2.0, pool_bytes=1.0)
    assert scoring.top_k(none, 5) == []


def test_the_best_come_first_and_equals_in_their_order() -> None:
    assert scoring.top_k(array("d", [1.0, 5.0, 0.0, 5.0, -1.0, 3.0]), 3) == [1, 3, 5]
    assert scoring.top_k(array("d", [1.0, 5.0, 0.0, 5.0, -1.0, 3.0]), 99) == [1, 3, 5, 0]
    assert scoring.top_k(array("d", [1.0]), 0) == []


def test_the_selection_takes_what_is_above_a_threshold_and_never_what_is_blocked() -> None:
    scores = array("d", [-1.0, -math.inf, 0.5, math.nan, 0.0, 2.0])
    assert scoring.top_k(scores, 9, above=-math.inf) == [5, 2, 4, 0]
    assert scoring.top_k(scores, 9, above=0.5) == [5]
    with pytest.raises(ValueError, match="above is NaN"):
        scoring.top_k(scores, 9, above=math.nan)


@pytest.mark.parametrize("rows", [511, 512, 513, 1024, 2000])  # blocks have 512
def test_the_best_is_found_wherever_it_stands(rows: int) -> None:
    for row in (0, rows // 2, rows - 1):
        scores = array("d", [1.0]) * rows
        scores[row] = 2.0
        assert scoring.top_k(scores, 1) == [row]
