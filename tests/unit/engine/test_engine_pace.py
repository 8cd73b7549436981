"""Tokens a second as `hali ps` tells them."""

from __future__ import annotations

from hali.engine.pace import Pace


def test_the_rate_is_that_of_the_last_seconds_and_of_work_only() -> None:
    pace = Pace()
    assert pace.rate is None
    pace.add(0.0, 100, busy=True)
    assert pace.rate is None
    for tick in range(1, 20):
        pace.add(tick / 2, 100 + 5 * tick, busy=True)
    assert pace.rate == 10.0
    for tick in range(20, 40):  # slower from now on
        pace.add(tick / 2, 195 + tick - 19, busy=True)
    assert pace.rate == 2.0
    pace.add(30.0, 500, busy=False)
    assert pace.rate is None
    pace.add(99.0, 500, busy=True)
    pace.add(100.0, 520, busy=True)
    assert pace.rate == 20.0
