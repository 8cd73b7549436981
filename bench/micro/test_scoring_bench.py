"""Auto-shard scores (P7): the kernels against the same formulas in NumPy and in plain Python.

NumPy gets its best form: tables for the marks, every temporary preallocated, ufuncs with `out=`, blocks that stay in
the L2 cache, argpartition for the selection. Python gets the reference that the tests compare with, over lists. All
three give the same bits and work on the same number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.versus import SHORT, versus
from hali._native import scoring
from tests import reference_scoring as reference

Column = npt.NDArray[np.float64]
ROWS = 1_000_000
ROUNDS = 5 if SHORT else 9  # plain Python takes about a second each; the spread of the others is small
BEST = 100
BLOCK = 65_536  # rows: measured the fastest of 1,024 to 1,000,000; smaller ones pay more for calls
MINIMUM, POOL, PRESSURE = 2.0, 3e9, 0.7


def acquisition_columns(rows: int) -> tuple[list[Column], npt.NDArray[np.uint8]]:
    """A large network: popularity, region holders, region average, need, local fraction, jitter; and marks."""
    rng = np.random.default_rng(1)
    floats = [rng.integers(0, 50, rows), rng.integers(0, 9, rows), rng.random(rows) * 5]
    floats += [rng.integers(-1, 5, rows) * 1e9, rng.random(rows), rng.random(rows) * 0.1]
    return [np.ascontiguousarray(column, np.float64) for column in floats], rng.integers(0, 32, rows, np.uint8)


def prune_columns(rows: int) -> tuple[list[Column], npt.NDArray[np.uint16]]:
    """Holders, target, near holders, demand, minutes since acquired and requested, load; and marks, a tenth blocked."""
    rng = np.random.default_rng(2)
    floats = [rng.integers(1, 12, rows), rng.integers(2, 5, rows), rng.integers(0, 8, rows), rng.exponential(2, rows)]
    floats += [rng.exponential(200, rows), rng.exponential(200, rows), rng.random(rows) * 3.5]
    marks = rng.integers(0, 64, rows).astype(np.uint16)
    marks[rng.random(rows) < 0.1] |= scoring.KEEP_CONFIGURED
    return [np.ascontiguousarray(column, np.float64) for column in floats], marks


FACTORS = np.array(reference.FACTORS)
TERMS = np.array(reference.TERMS)


class Scratch:
    """Temporaries of one block, made once."""

    def __init__(self, rows: int) -> None:
        self.a, self.b, self.c = np.empty(rows), np.empty(rows), np.empty(rows)
        self.yes, self.no = np.empty(rows, bool), np.empty(rows, bool)


SCRATCH = Scratch(BLOCK)


def numpy_acquisition(floats: list[Column], marks: npt.NDArray[np.uint8], out: Column) -> None:
    with np.errstate(divide="ignore"):
        for at in range(0, len(marks), BLOCK):
            rows = slice(at, at + BLOCK)
            acquisition_block([column[rows] for column in floats], marks[rows], out[rows])


def acquisition_block(floats: list[Column], marks: npt.NDArray[np.uint8], score: Column) -> None:
    popularity, holders, average, need, local, jitter = floats
    n = len(score)
    a, b, yes = SCRATCH.a[:n], SCRATCH.b[:n], SCRATCH.yes[:n]
    np.add(average, 1.0, out=a)
    np.copyto(a, 10.0, where=np.less(holders, MINIMUM, out=yes))
    np.add(holders, 1.0, out=b)
    np.divide(a, b, out=a)
    np.copyto(a, 20.0, where=np.less_equal(holders, 0.0, out=yes))
    np.maximum(popularity, 1.0, out=score)
    np.multiply(score, a, out=score)
    np.divide(POOL, need, out=a)
    np.maximum(a, 0.1, out=a)
    np.minimum(a, 1.0, out=a)  # pool / need is at least 1 exactly where the need fits
    np.copyto(a, 0.5, where=np.less_equal(need, 0.0, out=yes))
    np.multiply(score, a, out=score)
    np.subtract(1.0, local, out=a)
    np.maximum(a, 0.05, out=a)
    np.multiply(score, a, out=score)
    np.take(FACTORS, marks, out=a, mode="clip")  # with "raise", take copies through another buffer
    np.multiply(score, a, out=score)
    np.add(score, jitter, out=score)
    np.copyto(score, 0.0, where=np.less(a, 0.0, out=yes))
    if not np.isfinite(score, out=yes).all():
        raise ValueError("scores that are not finite")


def numpy_prune(floats: list[Column], marks: npt.NDArray[np.uint16], out: Column) -> None:
    for at in range(0, len(marks), BLOCK):
        rows = slice(at, at + BLOCK)
        prune_block([column[rows] for column in floats], marks[rows], out[rows])


def prune_block(floats: list[Column], marks: npt.NDArray[np.uint16], score: Column) -> None:
    holders, target, near, demand, acquired, requested, load = floats
    n = len(score)
    a, b, yes, no = SCRATCH.a[:n], SCRATCH.b[:n], SCRATCH.yes[:n], SCRATCH.no[:n]
    np.take(TERMS, marks, out=score, mode="clip")
    np.divide(holders, target, out=a)
    np.add(score, a, out=score)
    np.multiply(target, 2.0, out=a)
    np.add(score, np.greater_equal(holders, a, out=yes), out=score)
    np.add(score, 0.5 * PRESSURE, out=score)
    np.multiply(np.less(acquired, 30.0, out=yes), 0.2, out=a)
    np.subtract(score, a, out=score)
    np.multiply(np.greater(demand, 0.1, out=yes), 0.2, out=a)  # comparing three times is quicker than searchsorted
    np.copyto(a, 0.5, where=np.greater(demand, 1.0, out=yes))
    np.copyto(a, 1.0, where=np.greater(demand, 10.0, out=yes))
    np.subtract(score, a, out=score)
    np.multiply(np.less(requested, 60.0, out=yes), 1.5, out=a)
    np.subtract(score, a, out=score)
    np.maximum(target, 2.0, out=b)  # the margin at this pressure is 0
    np.greater(holders, b, out=no)
    for compare, column, limit in (
        (np.less, holders, math.inf),
        (np.greater_equal, target, 1.0),
        (np.greater_equal, near, 2.0),
        (np.greater_equal, requested, 5.0),
        (np.greater_equal, load, 0.0),
        (np.less_equal, load, 3.0),
    ):
        np.logical_and(no, compare(column, limit, out=yes), out=no)
    np.copyto(score, -math.inf, where=np.logical_not(no, out=no))


def numpy_top(scores: Column) -> list[int]:
    """The best 100, equals in their order, by a bound first: 100 blocks have a row at least as good as the bound."""
    whole = len(scores) // 1000 * 1000
    peaks = scores[:whole].reshape(-1, 1000).max(axis=1)
    bound = np.partition(peaks, len(peaks) - BEST)[len(peaks) - BEST]
    rows = np.flatnonzero(scores >= bound)
    best: list[int] = rows[np.argsort(-scores[rows], kind="stable")[:BEST]].tolist()
    return best


Case = tuple[Callable[[], object], dict[str, Callable[[], object]]]


def acquisition(select: bool) -> Case:
    floats, marks = acquisition_columns(ROWS)
    lists, plain_marks = [column.tolist() for column in floats], marks.tolist()
    out, theirs = np.empty(ROWS), np.empty(ROWS)

    def hali() -> object:
        scoring.score_candidates(*floats, marks, out, region_minimum=MINIMUM, pool_bytes=POOL)
        return scoring.top_k(out, BEST) if select else out

    def numpy() -> object:
        numpy_acquisition(floats, marks, theirs)
        return numpy_top(theirs) if select else theirs

    def python() -> object:
        scores = reference.score_candidates(*lists, plain_marks, region_minimum=MINIMUM, pool_bytes=POOL)
        return reference.top_k(scores, BEST) if select else scores

    return hali, {"numpy": numpy, "python": python}


def prune(select: bool) -> Case:
    floats, marks = prune_columns(ROWS)
    lists, plain_marks = [column.tolist() for column in floats], marks.tolist()
    out, theirs = np.empty(ROWS), np.empty(ROWS)

    def hali() -> object:
        scoring.prune_scores(*floats, marks, out, pressure=PRESSURE)
        return scoring.top_k(out, BEST, above=-math.inf) if select else out

    def numpy() -> object:
        numpy_prune(floats, marks, theirs)
        return numpy_top(theirs) if select else theirs

    def python() -> object:
        scores = reference.prune_scores(*lists, plain_marks, pressure=PRESSURE)
        return reference.top_k(scores, BEST, above=-math.inf) if select else scores

    return hali, {"numpy": numpy, "python": python}


@pytest.mark.parametrize(
    ("case", "make", "select"),
    [
        ("acquisition 1 M", acquisition, False),
        ("prune 1 M", prune, False),
        ("acquisition + best 100 of 1 M", acquisition, True),
        ("prune + best 100 of 1 M", prune, True),
    ],
)
def test_scoring(benchmark: BenchmarkFixture, case: str, make: Callable[[bool], Case], select: bool) -> None:
    subject, rivals = make(select)
    expected = np.array(subject())  # a copy: the kernels write into the same column again
    assert select or (np.isfinite(expected).sum() > ROWS // 10 and len(np.unique(expected)) > 100)
    for rival in rivals.values():
        assert np.array_equal(np.asarray(rival()), expected)
    versus(benchmark, "P7", case, subject, rivals, size=ROWS * (49 if make is acquisition else 58), rounds=ROUNDS)
