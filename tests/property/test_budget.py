"""Token buckets: never more than allowed, the wait that is told is the right one, and what was not used comes back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hali.api.budget import MINUTE_S, Bucket, Budget, Limits
from hali.model.errors import Overloaded

CAPACITY = st.integers(1, 10_000)
PAUSES = st.floats(0, 200)
DAY_S = 86_400


@settings(derandomize=True, max_examples=300)
@given(CAPACITY, st.lists(st.tuples(PAUSES, st.integers(1, 3000)), max_size=60))
def test_in_no_span_of_time_more_is_granted_than_the_bucket_and_what_flows_in(capacity, asked):
    budget, now, granted = Budget(Limits(tokens_per_minute=capacity)), 0.0, []
    for pause, tokens in asked:
        now += pause
        amount = min(tokens, capacity)
        try:
            budget.reserve(amount, now)
        except Overloaded:
            continue
        granted.append((now, amount))
    for i, (start, _) in enumerate(granted):
        for j in range(i, len(granted)):
            within = sum(amount for _, amount in granted[i : j + 1])
            assert within <= capacity * (1 + (granted[j][0] - start) / MINUTE_S) + 1e-6


@settings(derandomize=True, max_examples=300)
@given(CAPACITY, st.lists(st.tuples(PAUSES, st.integers(1, 20_000), st.integers(0, 40_000)), max_size=40))
def test_who_waits_as_long_as_told_is_let_in_and_not_much_earlier(capacity, asked):
    budget, now = Budget(Limits(tokens_per_minute=capacity)), 1e6
    for pause, tokens, used in asked:
        now += pause
        try:
            bill = budget.reserve(tokens, now)
        except Overloaded as refused:
            wait = refused.details["retry_after_s"]
            assert refused.code == "rate_limit" and isinstance(wait, int) and wait >= 1
            with pytest.raises(Overloaded):  # a second is the grain of Retry-After
                budget.reserve(tokens, now + max(0.0, wait - 1 - 1e-3))
            now += wait
            bill = budget.reserve(tokens, now)
        bill.settle(used, now)


@settings(derandomize=True, max_examples=300)
@given(
    CAPACITY,
    st.lists(st.tuples(PAUSES, st.integers(1, 5000), st.integers(0, 20_000)), min_size=1, max_size=40),
)
def test_over_time_what_was_really_used_stays_within_the_rate_but_for_the_last_reply(capacity, asked):
    """Who uses more than was reserved is in debt, and nothing is granted before it is paid."""
    budget, now, used_in_all = Budget(Limits(tokens_per_minute=capacity)), 0.0, 0
    for pause, tokens, used in asked:
        now += pause
        try:
            budget.reserve(tokens, now).settle(used, now)
        except Overloaded:
            continue
        assert used_in_all <= capacity * (1 + now / MINUTE_S) + 1e-6
        used_in_all += used


@settings(derandomize=True, max_examples=200)
@given(CAPACITY, st.integers(1, 10_000), st.integers(0, 10_000), st.integers(0, 3))
def test_only_what_was_used_is_missing_after_settling_however_often(capacity, reserved, used, again):
    budget = Budget(Limits(tokens_per_minute=capacity, tokens_per_day=capacity * 100))
    bill = budget.reserve(reserved, 0.0)
    for _ in range(again + 1):
        bill.settle(used, 0.0)
    assert budget.tokens is not None
    assert budget.tokens.level(0.0) == pytest.approx(capacity - used)
    assert budget._day is not None
    assert budget._day.level(0.0) == pytest.approx(capacity * 100 - used)


@settings(derandomize=True, max_examples=200)
@given(CAPACITY, st.floats(0.1, 1e6), st.lists(st.tuples(PAUSES, st.integers(-100, 100)), max_size=30))
def test_a_bucket_never_holds_more_than_its_capacity_and_is_full_when_told(capacity, period, steps):
    bucket, now = Bucket(capacity, period), 0.0
    for step, amount in steps:
        now += step
        bucket.take(amount, now)
        assert bucket.level(now) <= capacity
    assert bucket.level(now + bucket.full_in_s(now)) == pytest.approx(capacity)


def test_a_budget_of_a_day_refuses_when_that_of_a_minute_would_not():
    budget = Budget(Limits(tokens_per_minute=1000, tokens_per_day=1500))
    budget.reserve(1000, 0.0)
    with pytest.raises(Overloaded, match="1500 tokens a day") as refused:
        budget.reserve(1000, 60.0)
    assert refused.value.details["retry_after_s"] == math.ceil(DAY_S * 500 / 1500 - 60)
    assert budget.tokens is not None and budget.tokens.level(60.0) == 1000  # a refusal takes nothing


def test_no_limit_is_no_bucket_and_no_header():
    for limits in (Limits(), Limits(0, 0, 0)):
        budget = Budget(limits)
        for _ in range(10_000):
            budget.request(0.0)
        budget.reserve(10**9, 0.0).settle(10**9, 0.0)
        assert list(budget.headers(0.0)) == []


def test_the_headers_are_those_of_openai():
    budget = Budget(Limits(requests_per_minute=60, tokens_per_minute=6000))
    budget.request(0.0)
    budget.reserve(900, 0.0)
    assert dict(budget.headers(0.0)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5100",
        "x-ratelimit-reset-tokens": "9s",
    }
    assert dict(budget.headers(0.5))["x-ratelimit-reset-requests"] == "500ms"
    budget.reserve(5000, 0.5).settle(36_050, 0.5)  # a debt
    assert dict(budget.headers(0.5))["x-ratelimit-remaining-tokens"] == "0"
    assert dict(budget.headers(0.5))["x-ratelimit-reset-tokens"] == "6m9s"
