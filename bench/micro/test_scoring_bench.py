"""Acquisition scores: the kernel against the same formula in NumPy and in Python."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hali._native import scoring

Column = npt.NDArray[np.float64]
ROWS = 1_000_000
MINIMUM, POOL = 2.0, 3e9


def columns(rows: int) -> tuple[list[Column], npt.NDArray[np.uint8]]:
    """A large network: popularity, region holders, region average, need, local fraction, jitter; and marks."""
    rng = np.random.default_rng(1)
    floats = [rng.integers(0, 50, rows), rng.integers(0, 9, rows), rng.random(rows) * 5]
    floats += [rng.integers(-1, 5, rows) * 1e9, rng.random(rows), rng.random(rows) * 0.1]
    return [np.ascontiguousarray(column, np.float64) for column in floats], rng.integers(0, 32, rows, np.uint8)


def native(floats: list[Column], marks: npt.NDArray[np.uint8]) -> Column:
    out = np.empty(len(marks))
    scoring.score_candidates(*floats, marks, out, region_minimum=MINIMUM, pool_bytes=POOL)
    return out


def vectorised(floats: list[Column], marks: npt.NDArray[np.uint8]) -> Column:
    """As one writes it with NumPy."""
    popularity, holders, average, need, local, jitter = floats
    with np.errstate(divide="ignore"):
        rarity = np.where(holders <= 0, 20.0, np.where(holders < MINIMUM, 10.0, average + 1) / (holders + 1))
        fitness = np.where(need > 0, np.where(need <= POOL, 1.0, np.maximum(POOL / need, 0.1)), 0.5)
    score = np.maximum(popularity, 1.0) * rarity
    score *= np.where(marks & scoring.CONFIGURED, 100.0, 1.0)
    score *= np.where(marks & scoring.PINNED_HERE, 1000.0, 1.0)
    score *= fitness
    score *= np.maximum(1 - local, 0.05)
    score *= np.where(marks & scoring.SOURCE_NEAR, 1.5, 1.0)
    score *= np.where(marks & scoring.COMPLETES_CHAIN, 1.5, 1.0)
    return np.where(marks & scoring.PINNED_ELSEWHERE, 0.0, score + jitter)


@pytest.mark.benchmark(group="score 1 M candidates")
@pytest.mark.parametrize("how", [native, vectorised], ids=["hali", "numpy"])
def test_score(benchmark: BenchmarkFixture, how: object) -> None:
    floats, marks = columns(ROWS)
    assert callable(how)
    got = benchmark(how, floats, marks)
    assert np.array_equal(got, native(floats, marks))


@pytest.mark.benchmark(group="best 100 of 1 M")
@pytest.mark.parametrize("how", ["hali", "numpy"])
def test_top_k(benchmark: BenchmarkFixture, how: str) -> None:
    scores = native(*columns(ROWS))

    def partition() -> list[int]:
        rows = np.argpartition(-scores, 100)[:100]
        best: list[int] = rows[np.lexsort((rows, -scores[rows]))].tolist()
        return best

    got = benchmark(partition if how == "numpy" else lambda: scoring.top_k(scores, 100))
    assert sorted(scores[got]) == sorted(scores[scoring.top_k(scores, 100)])
