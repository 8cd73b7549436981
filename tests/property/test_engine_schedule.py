"""Whatever the sessions are like, a plan is a batch that fits, is fair and goes on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.engine.schedule import Work, schedule


@st.composite
def _works(draw: st.DrawFn) -> list[Work]:
    kinds = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 500), st.integers(1, 3000)), max_size=12))
    return [
        Work(
            key,
            max(held, 1) if decoding else held,
            1 if decoding else pending,
            decoding,
            max(held, 1) if decoding else held,
        )
        for key, (decoding, held, pending) in enumerate(kinds)
    ]


@given(_works(), st.integers(1, 1024), st.integers(0, 4000), st.integers(32, 512))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_a_plan_is_a_batch_that_can_be_computed(works: list[Work], n_batch: int, kv_free: int, beside: int) -> None:
    plan = schedule(works, n_batch=n_batch, kv_free=kv_free, beside=beside)
    by_key = {work.key: work for work in works}
    kept = [work for work in works if work.key not in plan.preempt]
    rows = sum(part.count for part in plan.slices)
    freed = sum(by_key[key].held for key in plan.preempt)

    assert rows <= n_batch
    assert rows <= kv_free + freed, "no more cells than are free"
    assert len({part.key for part in plan.slices}) == len(plan.slices), "one slice a session"
    assert all(part.key not in plan.preempt for part in plan.slices)
    assert all(1 <= part.count <= by_key[part.key].pending for part in plan.slices)
    assert list(plan.preempt) == [work.key for work in reversed(works)][: len(plan.preempt)], "the youngest, in order"
    assert len(plan.preempt) < max(1, len(works)), "the oldest stays"

    decoding = [work.key for work in kept if work.decoding]
    first = [part.key for part in plan.slices[: len(decoding)]]
    assert first == decoding[: len(first)], "decode rows first"
    prefill = sum(part.count for part in plan.slices if not by_key[part.key].decoding)
    assert not decoding or prefill <= beside
    if kept and kv_free + freed > 0:
        assert plan.slices, "something goes on"


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8), st.integers(8, 512))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_prompts_alone_fill_the_batch_or_are_all_served(pending: list[int], n_batch: int) -> None:
    works = [Work(key, 0, count, False, 0) for key, count in enumerate(pending)]
    plan = schedule(works, n_batch=n_batch, kv_free=1 << 20, beside=256)
    assert sum(part.count for part in plan.slices) == min(n_batch, sum(pending))
    counts = {part.key: part.count for part in plan.slices}
    assert counts[0] >= min(n_batch // 2, pending[0]), "the oldest has half"
    unfinished = [count for key, count in enumerate(pending) if key and counts.get(key, 0) < count]
    served = [pending[key] for key in counts if key]
    assert not unfinished or all(count <= min(unfinished) for count in served), "then the shortest"


@given(st.lists(st.integers(1, 400), min_size=1, max_size=10), st.integers(64, 300), st.integers(1, 64))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_every_session_ends_however_small_the_cache(prompts: list[int], n_kv: int, n_batch: int) -> None:
    """A model of the loop: sessions grow to their context, the preempted come back, and all get there."""
    limit = n_kv - 1
    waiting = [min(prompt, limit - 1) for prompt in prompts]  # tokens known
    running: dict[int, list[int]] = {}  # key -> [held, known]
    ended = 0
    for turn in range(20_000):
        while waiting and (not running or sum(known for _, known in running.values()) + waiting[0] <= n_kv):
            running[turn * 100 + len(running)] = [0, waiting.pop(0)]
        works = [
            Work(key, held, known - held, held > 0 and known - held == 1, held)
            for key, (held, known) in running.items()
        ]
        held = sum(work.held for work in works)
        plan = schedule(works, n_batch=n_batch, kv_free=n_kv - held, beside=32)
        for key in plan.preempt:
            waiting.insert(0, running.pop(key)[1])
        for part in plan.slices:
            state = running[part.key]
            state[0] += part.count
            if state[0] == state[1]:
                state[1] += 1
                if state[1] > limit:
                    del running[part.key]
                    ended += 1
        assert sum(held for held, _ in running.values()) <= n_kv
        if ended == len(prompts):
            return
    raise AssertionError(f"{ended} of {len(prompts)} ended")
