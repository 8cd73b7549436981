"""hali._native.scoring, pruning: each term and each block by itself, with numbers one can do in one's head."""

from __future__ import annotations

import math
from array import array

import pytest

from hali._native import scoring

NAN, INF = math.nan, math.inf


def prune(
    *,
    holders: float = 6.0,
    target: float = 4.0,
    near: float = 2.0,
    demand: float = 0.0,
    acquired: float = INF,
    requested: float = INF,
    load: float = 0.0,
    marks: int = 0,
    pressure: float = 0.0,
    schedule: float = 0.0,
) -> float:
    """One unit; as given here, nothing but holders / target = 1.5 counts."""
    out = array("d", [NAN])
    columns = [array("d", [value]) for value in (holders, target, near, demand, acquired, requested, load)]
    scoring.prune_scores(*columns, array("H", [marks]), out, pressure=pressure, schedule=schedule)
    return out[0]


def test_a_unit_with_nothing_special_scores_its_holders_by_their_target() -> None:
    assert prune() == 1.5
    assert prune(holders=7) == 1.75


@pytest.mark.parametrize(("holders", "score"), [(7, 1.75), (8, 3.0), (12, 4.0)])
def test_twice_the_target_is_abundance(holders: float, score: float) -> None:
    assert prune(holders=holders) == score


@pytest.mark.parametrize(
    ("demand", "less"), [(0.1, 0), (0.11, 0.2), (1, 0.2), (1.1, 0.5), (10, 0.5), (11, 1), (NAN, 1)]
)
def test_what_the_region_asks_for_stays_rather(demand: float, less: float) -> None:
    assert prune(demand=demand) == 1.5 - less


@pytest.mark.parametrize(("minutes", "less"), [(0, 0.2), (29.9, 0.2), (30, 0), (NAN, 0.2)])
def test_what_came_a_moment_ago_stays_rather(minutes: float, less: float) -> None:
    assert prune(acquired=minutes) == 1.5 - less


@pytest.mark.parametrize(("minutes", "less"), [(5, 1.5), (59.9, 1.5), (60, 0)])
def test_what_was_requested_within_the_hour_stays_rather(minutes: float, less: float) -> None:
    assert prune(requested=minutes) == 1.5 - less


@pytest.mark.parametrize(
    ("mark", "more"),
    [
        (scoring.COLD, 1),
        (scoring.ENDS_MODEL, -0.5),
        (scoring.RAREST, -0.3),
        (scoring.SURPLUS, 0.5),
        (scoring.SPLITS_RANGE, -0.5),
        (scoring.ISLAND, 0.5),
        (scoring.COLD | scoring.SURPLUS | scoring.ISLAND, 2),
        (scoring.ENDS_MODEL | scoring.SPLITS_RANGE, -1),
    ],
)
def test_marks_add(mark: int, more: float) -> None:
    assert prune(marks=mark) == 1.5 + more


def test_pressure_and_schedule_count_half() -> None:
    assert prune(pressure=0.5) == 1.75
    assert prune(pressure=0.5, schedule=0.5) == 2.0
    assert prune(schedule=0.25) == 1.625


def test_unknown_pressure_is_none() -> None:
    assert prune(pressure=NAN) == 1.5
    assert prune(pressure=NAN, holders=5) == -INF  # and keeps one more than the target, as an empty disk does


@pytest.mark.parametrize(
    ("pressure", "kept"), [(0.0, 9), (0.49, 9), (0.5, 8), (0.8, 8), (0.81, 7), (0.95, 7), (0.96, 6), (1.0, 6)]
)
def test_the_fuller_it_is_here_the_fewer_replicas_are_kept(pressure: float, kept: float) -> None:
    assert prune(target=8, holders=kept, pressure=pressure) == -INF
    assert prune(target=8, holders=kept + 1, pressure=pressure) > 0


def test_two_copies_stay_at_any_pressure() -> None:
    assert prune(target=2, holders=2, pressure=1.0) == -INF
    assert prune(target=2, holders=3, pressure=1.0) > 0


@pytest.mark.parametrize("name", [name for name in dir(scoring) if name.startswith("KEEP_")])
def test_every_mark_that_says_keep_is_a_block(name: str) -> None:
    assert prune(holders=1e9, marks=getattr(scoring, name) | scoring.COLD, pressure=1.0) == -INF


def test_there_are_ten_marks_that_block_and_six_that_count_and_none_is_another() -> None:
    blocks = [getattr(scoring, name) for name in dir(scoring) if name.startswith("KEEP_")]
    counts = [scoring.COLD, scoring.ENDS_MODEL, scoring.RAREST, scoring.SURPLUS, scoring.SPLITS_RANGE, scoring.ISLAND]
    assert (len(blocks), sum(blocks) + sum(counts)) == (10, 0xFFFF)


@pytest.mark.parametrize(
    "why",
    [
        {"near": 1},
        {"near": NAN},
        {"requested": 4.9},
        {"requested": -1},
        {"requested": NAN},
        {"load": 3.1},
        {"load": -1},
        {"load": NAN},
        {"holders": 5},  # target + 1
        {"holders": NAN},
        {"holders": INF},
        {"target": NAN},
        {"target": 0},
        {"target": -4},
        {"target": INF},
    ],
    ids=str,
)
def test_each_block_is_enough(why: dict[str, float]) -> None:
    assert prune(**why) == -INF


@pytest.mark.parametrize(
    "right", [{"near": 2}, {"requested": 5}, {"load": 3.0}, {"holders": 6}, {"target": 1}], ids=str
)
def test_each_block_ends_where_it_says(right: dict[str, float]) -> None:
    assert prune(**right) > -INF


@pytest.mark.parametrize(
    "wrong", [{"pressure": 1.1}, {"pressure": -0.1}, {"schedule": NAN}, {"schedule": INF}], ids=str
)
def test_a_pressure_or_schedule_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be within 0 and 1"):
        prune(**wrong)


def test_columns_of_different_length_or_type_are_refused() -> None:
    one, two, marks = array("d", [1.0]), array("d", [1.0, 1.0]), array("H", [0])
    with pytest.raises(ValueError, match="differ in length"):
        scoring.prune_scores(one, one, one, one, two, one, one, marks, one, pressure=0.0)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        scoring.prune_scores(one, one, one, one, one, one, one, b"\0", one, pressure=0.0)


def test_nothing_held_is_no_error() -> None:
    none = array("d")
    scoring.prune_scores(none, none, none, none, none, none, none, array("H"), none, pressure=0.0)
