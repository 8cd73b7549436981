"""Events have the kinds and fields of the catalogue, are numbered, and are replayed to whoever comes later."""

from __future__ import annotations

import pytest

from hali.model.activity import KINDS, STRANGERS, ActivityEvent
from hali.runtime.activity import LONGEST, REPLAYED, Activity

pytestmark = pytest.mark.anyio


def test_an_event_of_no_catalogued_kind_or_field_is_refused() -> None:
    activity = Activity()
    with pytest.raises(KeyError):
        activity.tell("pull.imagined", "no")
    with pytest.raises(ValueError, match="colour"):
        activity.tell("pull.started", "no", colour="red")


def test_every_kind_is_a_noun_and_what_happened_to_it() -> None:
    for kind, declared in KINDS.items():
        noun, _, verb = kind.partition(".")
        assert noun.isidentifier() and verb.isidentifier()
        assert declared.doc.endswith(".")


async def test_a_later_reader_gets_the_last_hundred_events_and_then_what_happens() -> None:
    activity = Activity()
    for number in range(REPLAYED + 20):
        activity.tell("pull.started", f"pull {number}", what=str(number))
    with activity.events.subscribe(replay=True) as reader:
        activity.tell("pull.finished", "done", what="x")
        seen = [await anext(reader) for _ in range(REPLAYED + 1)]
    assert [event.seq for event in seen] == list(range(21, REPLAYED + 22))


class Clock:
    """Seconds that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_what_strangers_cause_is_told_so_often_a_minute_and_costs_nothing_else_its_place() -> None:
    clock = Clock()
    activity = Activity(clock=clock)
    for number in range(1000):
        activity.tell("peer.banned", "bad", peer=str(number))
    activity.tell("pull.started", "a pull", what="x")
    assert activity.seq == STRANGERS + 1
    clock.now += 59
    activity.tell("peer.banned", "bad", peer="x")
    assert activity.seq == STRANGERS + 1
    clock.now += 1
    activity.tell("peer.banned", "bad", peer="x")
    assert activity.seq == STRANGERS + 2


async def test_a_text_or_field_of_a_stranger_s_length_is_cut() -> None:
    activity = Activity()
    with activity.events.subscribe() as events:
        activity.tell("pull.failed", "t" * 10**6, what="w" * 10**6, job="j" * LONGEST)
        event = await anext(events)
    assert isinstance(event, ActivityEvent)
    assert len(event.text) == len(str(event.fields["what"])) == LONGEST and event.text.endswith("t…")
    assert event.fields["job"] == "j" * LONGEST
