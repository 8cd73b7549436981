"""Token buckets: nobody gets more than burst and rate allow, whoever waits as told is served, and memory stays bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hali.registry.limits import Limiter, Rate

RATE = Rate(burst=3, per_second=2)
PAUSES = st.lists(st.floats(0, 2), max_size=60)


@given(PAUSES)
def test_no_more_is_served_than_burst_and_rate_allow(pauses: list[float]) -> None:
    limiter, now, served = Limiter(RATE), 0.0, 0
    for pause in pauses:
        now += pause
        served += not limiter.take("a", now)
    assert served <= RATE.burst + RATE.per_second * now + 1e-6


@given(PAUSES)
def test_who_waits_as_long_as_told_is_served(pauses: list[float]) -> None:
    limiter, now = Limiter(RATE), 0.0
    for pause in pauses:
        now += pause
        while wait := limiter.take("a", now):
            assert wait <= 1 / RATE.per_second + 1e-9
            now += wait + 1e-9


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 1)), max_size=100))
def test_names_do_not_take_from_each_other_and_few_are_remembered(asked: list[tuple[str, float]]) -> None:
    limiter, alone, now = Limiter(RATE, capacity=8), {name: Limiter(RATE) for name in "abcdefgh"}, 0.0
    small = Limiter(RATE, capacity=2)
    for name, pause in asked:
        now += pause
        assert limiter.take(name, now) == alone[name].take(name, now)
        small.take(name, now)
        assert len(small._buckets) <= 2
