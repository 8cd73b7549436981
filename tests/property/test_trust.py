"""The trust score: within its bounds, and never lower for better facts."""

from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hali.registry import trust
from hali.registry.trust import Inputs, parts, score, wilson

COUNTS = st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
DAYS = st.floats(0, 1e5)


@st.composite
def inputs(draw: st.DrawFn) -> Inputs:
    (ok, reports), (publisher_ok, publisher_reports) = draw(COUNTS), draw(COUNTS)
    flags = [draw(st.booleans()) for _ in range(3)]
    return Inputs(*flags, draw(DAYS), publisher_ok, publisher_reports, ok, reports, draw(DAYS))


@given(inputs())
def test_every_part_and_the_sum_stay_within_their_points(facts: Inputs) -> None:
    most = {"format": 30, "reputation": 25, "success": 30, "maturity": 15}
    found = parts(facts)
    assert found.keys() == most.keys()
    assert all(0 <= found[name] <= limit for name, limit in most.items())
    assert 0 <= score(facts) <= 100
    assert math.isclose(score(facts), sum(found.values()))


@given(inputs(), st.sampled_from(["torrent", "layers", "header", "publisher_days", "days", "ok", "publisher_ok"]))
def test_a_better_fact_never_lowers_the_score(facts: Inputs, name: str) -> None:
    now = getattr(facts, name)
    changes = {name: True if isinstance(now, bool) else now + 1}
    of = {"ok": "reports", "publisher_ok": "publisher_reports"}.get(name)
    if of is not None:  # one more reporter, who succeeded
        changes[of] = getattr(facts, of) + 1
    assert score(msgspec.structs.replace(facts, **changes)) >= score(facts) - 1e-9


@given(inputs(), st.sampled_from(["reports", "publisher_reports"]))
def test_a_failed_download_never_raises_the_score(facts: Inputs, name: str) -> None:
    assert score(msgspec.structs.replace(facts, **{name: getattr(facts, name) + 1})) <= score(facts) + 1e-9


@given(COUNTS)
def test_the_wilson_bound_solves_its_own_equation(counts: tuple[int, int]) -> None:
    k, n = counts
    bound = wilson(k, n)
    if n == 0 or k == 0:
        assert math.isclose(bound, 0, abs_tol=1e-12)
        return
    # The interval's ends are where |p − k/n| = z·√(p(1 − p)/n): the definition, not the closed form that the module uses.
    assert bound < k / n
    assert math.isclose(k / n - bound, trust.Z * math.sqrt(bound * (1 - bound) / n), rel_tol=1e-6)


def test_a_new_but_well_formed_gguf_is_just_visible_and_anything_less_is_not() -> None:
    fresh = Inputs(True, True, True, 0, 0, 0, 0, 0, 0)
    assert score(fresh) == trust.VISIBLE
    assert score(msgspec.structs.replace(fresh, header=False)) < trust.VISIBLE
    best = Inputs(True, True, True, 1e4, 10**9, 10**9, 10**9, 10**9, 1e4)
    assert math.isclose(score(best), 100, abs_tol=1e-6)
