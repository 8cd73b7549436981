"""Responses that are kept: whose they are, how many, how large, how old."""

from __future__ import annotations

import pytest

from hali.api.openai_items import items_of
from hali.api.openai_response_writer import ResponseWriter
from hali.api.response_store import ResponseStore, Stored, StoreLimits
from hali.model.errors import NotFound, Overloaded


class Clock:
    """Time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def stored(name: str, owner: str | None = "ann", *, text: str = "hi", status: str = "completed") -> Stored:
    writer = ResponseWriter({"id": name, "status": status, "output": []})
    return Stored(owner, writer, items_of(text))


def names(store: ResponseStore, *candidates: str, owner: str | None = "ann") -> list[str]:
    """Those of `candidates` that are there."""
    there = []
    for name in candidates:
        try:
            there.append(store.get(name, owner).id)
        except NotFound:
            continue
    return there


@pytest.mark.parametrize("other", ["bob", None, ""])
def test_nobody_else_finds_a_response(other) -> None:
    store = ResponseStore()
    store.keep(stored("r", "ann"))
    with pytest.raises(NotFound) as theirs:
        store.get("r", other)
    with pytest.raises(NotFound) as absent:
        store.get("s", other)
    assert str(theirs.value).replace("'r'", "'s'") == str(absent.value)
    with pytest.raises(NotFound):
        store.delete("r", other)
    assert store.get("r", "ann").id == "r"


def test_the_oldest_goes_when_there_are_too_many() -> None:
    store = ResponseStore(StoreLimits(count=2))
    for name in "abc":
        store.keep(stored(name))
    assert names(store, *"abc") == ["b", "c"]


def test_bytes_are_bounded_and_a_single_large_one_is_kept() -> None:
    store = ResponseStore(StoreLimits(bytes=3300))
    for name in "abcd":
        store.keep(stored(name, text="x" * 800))
    assert names(store, *"abcd") == ["b", "c", "d"]
    store.keep(stored("e", text="x" * 5000))
    assert names(store, *"abcde") == ["e"]


def test_whoever_takes_the_most_room_loses_first() -> None:
    store = ResponseStore(StoreLimits(count=3))
    store.keep(stored("bobs", "bob"))
    for name in "abc":
        store.keep(stored(name, "ann"))
    assert names(store, *"abc") == ["b", "c"]
    assert names(store, "bobs", owner="bob") == ["bobs"]


def test_old_ones_are_forgotten() -> None:
    clock = Clock()
    store = ResponseStore(StoreLimits(age_s=10), clock)
    store.keep(stored("a"))
    clock.now = 9
    store.keep(stored("b"))
    clock.now = 11
    assert names(store, "a", "b") == ["b"]


def test_what_is_being_made_is_not_thrown_away() -> None:
    clock = Clock()
    store = ResponseStore(StoreLimits(count=2, age_s=10), clock)
    store.admit(stored("a", status="in_progress"))
    store.admit(stored("b", status="queued"))
    clock.now = 100
    with pytest.raises(Overloaded):
        store.admit(stored("c", status="queued"))
    assert names(store, *"abc") == ["a", "b"]


def test_what_is_being_made_counts_and_a_newcomer_without_room_takes_nobody_elses() -> None:
    store = ResponseStore(StoreLimits(bytes=3000))
    store.keep(stored("made"))
    store.admit(stored("a", text="x" * 1500, status="queued"))
    with pytest.raises(Overloaded):
        store.admit(stored("b", text="x" * 1500, status="queued"))
    assert names(store, "made", "a", "b") == ["made", "a"]


def test_what_was_made_is_kept_be_there_room_or_not() -> None:
    store = ResponseStore(StoreLimits(bytes=3000))
    growing = stored("a", status="in_progress")
    store.admit(stored("b", text="x" * 1500, status="queued"))
    store.admit(growing)
    growing.writer.response |= {"status": "completed", "output": ["x" * 5000]}
    store.settle(growing)
    store.keep(stored("c", text="x" * 1500))
    assert names(store, *"abc") == ["b", "c"]


def test_what_has_ended_counts_with_its_size_unless_it_was_deleted() -> None:
    store = ResponseStore()
    made = stored("a", status="in_progress")
    store.admit(made)
    before = made.size
    made.writer.response |= {"status": "completed", "output": ["x" * 100]}
    store.settle(made)
    assert made.size >= before + 100
    store.delete("a", "ann")
    store.settle(made)
    assert len(store) == 0
