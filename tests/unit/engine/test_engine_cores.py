"""Threads: never more than there are cores to spare, unless somebody says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hali.engine.cores import choose_threads, usable_cores


@pytest.mark.parametrize(("cores", "expected"), [(1, (1, 1)), (2, (1, 1)), (4, (2, 2)), (8, (4, 6)), (16, (8, 14))])
def test_the_default_leaves_cores_to_others(cores: int, expected: tuple[int, int]) -> None:
    assert choose_threads(0, 0, cores) == expected


def test_what_was_chosen_is_taken() -> None:
    assert choose_threads(3, 5, 2) == (3, 5)
    assert choose_threads(7, 0, 2) == (7, 7)


@pytest.mark.parametrize(
    ("text", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_containers_quota_counts(tmp_path: Path, text: str, expected: int | None) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert usable_cores(quota) == (expected or len(os.sched_getaffinity(0)))
    assert usable_cores(tmp_path / "nothing") == len(os.sched_getaffinity(0))
