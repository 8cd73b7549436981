"""Probabilities from logits."""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")

import numpy as np

from hali.engine.logprobs import FLOOR, check_top, told
from hali.model.errors import UsageError


def piece(token: int) -> bytes:
    return b"%d" % token


@pytest.mark.parametrize("size", [1, 5, 63, 64, 1000, 4097])
@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_the_likeliest_are_told_in_order_and_all_probabilities_are_right(size: int, top: int) -> None:
    rng = np.random.default_rng(size + top)
    logits = np.round(rng.normal(0, 5, size), 1).astype(np.float32)  # rounded, so that there are equal ones
    right = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    for token in rng.integers(0, size, 3):
        found = told(logits, int(token), top, 1.0, piece)
        assert [one.token for one in found.top] == [int(t) for t in np.argsort(-logits, kind="stable")[:top]]
        for one in (found.chosen, *found.top):
            assert one.logprob == pytest.approx(right[one.token], abs=1e-4)
            assert one.text == piece(one.token)
    assert found.chosen.token == token


def test_an_impossible_token_has_a_number_that_json_can_carry() -> None:
    logits = np.array([0.0, -np.inf], np.float32)
    assert told(logits, 1, 2, 1.0, piece).chosen.logprob == FLOOR
    assert told(np.array([0.0, -1e30], np.float32), 1, 0, 1.0, piece).chosen.logprob == FLOOR


def test_a_low_temperature_does_not_overflow() -> None:
    assert told(np.array([900.0, 0.0], np.float32), 0, 1, 0.01, piece).chosen.logprob == pytest.approx(0.0)


@pytest.mark.parametrize("count", [-1, 21])
def test_more_alternatives_than_are_told_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match="0 to 20"):
        check_top(count)
