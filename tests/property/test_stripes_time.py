"""Nodes that fetch one torrent at once over links of 50 Mbit/s, as a model: how long the last one takes, and what the seed sends."""

from __future__ import annotations

from random import Random
from statistics import mean

import pytest

from tests.fakes.fluid_swarm import RATE, FluidSwarm

PIECES = 64  # of 16 MiB


@pytest.mark.parametrize("unfair", [0.2, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_nine_take_little_longer_than_one_and_little_more_than_one_copy(seed: int, unfair: float) -> None:
    took = FluidSwarm([RATE] * 9, PIECES, Random(seed), unfair=unfair).run()
    assert took.times < 1.5
    assert took.copies < 1.02


def test_one_that_is_ten_times_slower_holds_four_others_up_for_less_than_a_copy() -> None:
    """Its pieces go from it to a few, which pass them on; where all asked it at once, for a whole one."""
    runs = [FluidSwarm([RATE / 10] + [RATE] * 4, PIECES, Random(seed)) for seed in range(8)]
    took = [run.run(waited_for=range(1, 5)) for run in runs]
    assert mean(each.times for each in took) < 1.75
    assert mean(each.copies for each in took) < 1.06


@pytest.mark.parametrize("seed", range(4))
def test_of_nine_two_that_hang_hold_nobody_up_for_ever(seed: int) -> None:
    took = FluidSwarm([1.0] * 2 + [RATE] * 7, PIECES, Random(seed)).run(waited_for=range(2, 9))
    assert took.times < 2.5
    assert took.copies < 1.2
