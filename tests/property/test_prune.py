"""The planner of `hali prune`: enough, not too much, the right ones, and never what must be kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hali.share.prune import Candidate, choose, shortfall

NOW = 1_000_000.0
candidates = st.lists(
    st.builds(
        Candidate,
        sha256=st.text("0123456789abcdef", min_size=4, max_size=4),
        model_id=st.just("m"),
        size=st.integers(1, 1000),
        last_used=st.floats(0, 2 * NOW),  # a clock that was wrong may have left times to come
        keep=st.sampled_from([None, None, None, "pinned", "in memory", "being sent"]),
    ),
    unique_by=lambda c: c.sha256,
    max_size=12,
)
quotas = st.none() | st.integers(0, 8000)
ages = st.none() | st.floats(0, 2 * NOW)


@given(candidates, quotas, ages)
def test_what_must_be_kept_is_never_chosen_and_nothing_is_chosen_twice(
    known: list[Candidate], quota: int | None, age: float | None
) -> None:
    chosen = choose(known, now=NOW, quota=quota, older_than=age)
    assert all(c.keep is None and c in known for c in chosen)
    assert len({c.sha256 for c in chosen}) == len(chosen)


@given(candidates, quotas)
def test_a_quota_frees_what_it_needs_and_less_than_one_model_more(known: list[Candidate], quota: int | None) -> None:
    chosen = choose(known, now=NOW, quota=quota)
    excess = 0 if quota is None else max(0, sum(c.size for c in known) - quota)
    freed = sum(c.size for c in chosen)
    if freed < excess:
        assert {c.sha256 for c in chosen} == {c.sha256 for c in known if c.keep is None}
    else:
        assert freed - excess < (chosen[-1].size if chosen else 1)
    assert shortfall(known, chosen, quota) == max(0, excess - freed)


@given(candidates, ages)
def test_age_alone_takes_exactly_the_old_ones(known: list[Candidate], age: float | None) -> None:
    chosen = choose(known, now=NOW, older_than=age)
    old = {c.sha256 for c in known if c.keep is None and age is not None and NOW - c.last_used >= age}
    assert {c.sha256 for c in chosen} == old


@given(candidates, quotas, ages)
def test_whoever_goes_was_used_before_all_who_could_have_gone_instead(
    known: list[Candidate], quota: int | None, age: float | None
) -> None:
    chosen = choose(known, now=NOW, quota=quota, older_than=age)
    stay = [c.last_used for c in known if c.keep is None and c not in chosen]
    assert all(c.last_used <= min(stay, default=c.last_used) for c in chosen)


@given(candidates, quotas, ages, st.randoms(use_true_random=False))
def test_the_same_facts_give_the_same_plan_in_whatever_order_they_come(
    known: list[Candidate], quota: int | None, age: float | None, random: object
) -> None:
    plan = choose(known, now=NOW, quota=quota, older_than=age)
    shuffled = list(known)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, now=NOW, quota=quota, older_than=age) == plan
    rest = [c for c in known if c not in plan]
    assert choose(rest, now=NOW, quota=quota, older_than=age) == []
