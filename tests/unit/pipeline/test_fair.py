"""The fair queue: shares by weight, bounds, no trace of keys that left."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hali.model.errors import Overloaded
from hali.pipeline.fair import FairQueue


def _queue(capacity=1000, per_key=1000) -> FairQueue[object]:
    return FairQueue(capacity=capacity, per_key=per_key)


def _pop_all(queue):
    items = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def test_items_of_one_key_come_out_in_the_order_they_came_in():
    queue = _queue()
    for n in range(20):
        queue.push("a", ("a", n))
    assert _pop_all(queue) == [("a", n) for n in range(20)]


def test_a_key_with_many_items_delays_a_newcomer_by_one_item_at_most():
    queue = _queue()
    for n in range(100):
        queue.push("greedy", ("greedy", n))
    for _ in range(10):
        queue.pop()
    queue.push("late", ("late", 0))
    assert ("late", 0) in [queue.pop(), queue.pop()]


def test_weights_divide_the_turns():
    queue = _queue()
    for n in range(300):
        queue.push("heavy", ("heavy", n), weight=3.0)
        queue.push("light", ("light", n), weight=1.0)
    turns = Counter(queue.pop()[0] for _ in range(200))
    assert turns["heavy"] == pytest.approx(150, abs=2)


def test_who_takes_requests_back_does_not_wait_for_them():
    """Or a client that gave up and asks again would stand behind all that it gave up."""
    queue = _queue()
    for n in range(10):
        queue.push("impatient", ("impatient", n))
    for n in (4, 0, 9, 1, 2, 3, 5, 6):
        assert queue.remove(("impatient", n)) is False  # equal is not the same
    items = [entry[3] for entry in queue._heap]
    for item in items[:8]:
        assert queue.remove(item)
    for n in range(4):
        queue.push("patient", ("patient", n))
    assert [key for key, _ in _pop_all(queue)] == ["impatient", "patient", "impatient", "patient", "patient", "patient"]


def test_a_key_cannot_take_more_than_its_share_of_the_places():
    queue = _queue(per_key=2)
    queue.push("a", object())
    queue.push("a", object())
    with pytest.raises(Overloaded) as refused:
        queue.push("a", object())
    assert refused.value.code == "rate_limit"
    queue.push("b", object())


def test_a_full_queue_refuses_everybody():
    queue = _queue(capacity=2)
    queue.push("a", object())
    queue.push("b", object())
    with pytest.raises(Overloaded) as refused:
        queue.push("c", object())
    assert refused.value.code == "overloaded"


@settings(derandomize=True, max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.sampled_from("abcd"), st.floats(0.1, 10)),
            st.tuples(st.just("pop"), st.none(), st.none()),
            st.tuples(st.just("remove"), st.integers(0, 50), st.none()),
        ),
        max_size=80,
    )
)
def test_what_went_in_comes_out_once_and_nothing_is_remembered_of_an_empty_queue(operations):
    queue, inside, number = _queue(capacity=30, per_key=12), {}, 0
    for action, argument, weight in operations:
        if action == "push":
            item = (argument, number)
            number += 1
            try:
                queue.push(argument, item, weight=weight)
                inside[item] = item
            except Overloaded:
                assert len(inside) == 30 or Counter(k for k, _ in inside)[argument] == 12
        elif action == "pop":
            item = queue.pop()
            assert item is None or inside.pop(item) is item
        elif inside:
            victim = inside.pop(list(inside)[argument % len(inside)])
            assert queue.remove(victim) and not queue.remove(victim)
        assert len(queue) == len(inside)
        assert all(queue.waiting(key) == Counter(k for k, _ in inside)[key] for key in "abcd")
    assert sorted(_pop_all(queue)) == sorted(inside)
    assert (queue._last_end, queue._waiting, queue._now) == ({}, Counter(), 0.0)
