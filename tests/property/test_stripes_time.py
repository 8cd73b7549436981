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


@pytest.mark.parametrize("pieces", [3, 4, 8])
def test_of_few_pieces_chance_takes_nobody_for_slow(pieces: int) -> None:
    """What was on its way to whom it was taken from would be sent again."""
    took = [FluidSwarm([RATE] * 3, pieces, Random(seed), unfair=1.0).run() for seed in range(6)]
    assert mean(each.copies for each in took) < 1.06


@pytest.mark.parametrize(("slower", "others", "pieces"), [(10, 4, 64), (3, 4, 64), (10, 8, 64), (10, 2, 24)])
def test_one_that_is_slower_holds_the_others_up_little(slower: int, others: int, pieces: int) -> None:
    """They leave it no pieces once they see that. Where it kept its share, two of them waited 2.6 copies' time, at worst seven."""
    swarms = [FluidSwarm([RATE / slower] + [RATE] * others, pieces, Random(seed)) for seed in range(6)]
    took = [swarm.run(waited_for=range(1, others + 1)) for swarm in swarms]
    assert mean(each.times for each in took) < 1.4
    assert mean(each.copies for each in took) < 1.08


@pytest.mark.parametrize("seed", range(4))
def test_of_nine_two_that_hang_hold_nobody_up_for_long(seed: int) -> None:
    took = FluidSwarm([1.0] * 2 + [RATE] * 7, PIECES, Random(seed)).run(waited_for=range(2, 9))
    assert took.times < 1.5
    assert took.copies < 1.06
