"""Long queries are answered in steps, in turn, and each ends once."""

from __future__ import annotations

from collections.abc import Iterator

from hali.engine.answering import MAX_QUERIES, Answering
from hali.model.errors import HaliError, UsageError
from hali.model.generation import Answer, Query, Text, Tokenize


class Rig:
    """Answers a number with that many steps before it; a negative one fails after one step."""

    def __init__(self) -> None:
        self.ended: list[tuple[bytes, str]] = []
        self.later: list[int | None] = []  # when those that failed may come again
        self.queries = Answering(self._steps, self._answered, self._failed)

    def _steps(self, query: Query) -> Iterator[Answer | None]:
        assert isinstance(query, Tokenize)
        number = int(query.text)
        yield from [None] * abs(number)
        if number < 0:
            raise UsageError("no")
        yield Text(query.text)

    def _answered(self, session: bytes, answer: Answer) -> None:
        assert isinstance(answer, Text)
        if len(answer.text) > 3:
            raise UsageError("too much to send", code="too_large")
        self.ended.append((session, answer.text))

    def _failed(self, session: bytes, error: HaliError) -> None:
        self.ended.append((session, error.code))
        self.later.append(error.details.get("retry_after_s"))

    def open(self, session: bytes, number: int) -> None:
        self.queries.open(session, Tokenize(str(number)))

    def run(self) -> None:
        while self.queries.busy:
            self.queries.step()


def test_what_needs_one_step_is_answered_at_once_beside_longer_ones() -> None:
    rig = Rig()
    rig.open(b"long", 3)
    rig.open(b"short", 0)
    assert rig.ended == [(b"short", "0")]
    rig.run()
    assert rig.ended[1:] == [(b"long", "3")]


def test_a_bug_in_one_query_costs_no_other() -> None:
    rig = Rig()
    rig.open(b"long", 3)
    rig.queries.open(b"broken", Tokenize("no number"))
    rig.run()
    assert rig.ended == [(b"broken", "internal"), (b"long", "3")]


def test_an_answer_that_cannot_be_sent_fails_its_query_and_no_other() -> None:
    rig = Rig()
    rig.open(b"a", 9)
    rig.queries.open(b"b", Tokenize("0000"))
    rig.run()
    assert rig.ended == [(b"b", "too_large"), (b"a", "9")]


def test_long_ones_take_turns() -> None:
    rig = Rig()
    for session, number in ((b"a", 9), (b"b", 2), (b"c", -3)):
        rig.open(session, number)
    rig.run()
    assert [session for session, _ in rig.ended] == [b"b", b"c", b"a"]
    assert rig.ended[1][1] == UsageError.code


def test_what_was_cancelled_is_not_gone_on_with_and_has_ended() -> None:
    rig = Rig()
    rig.open(b"a", 9)
    rig.queries.cancel(b"a")
    rig.queries.cancel(b"unknown")
    assert not rig.queries.busy
    assert rig.ended == [(b"a", "cancelled")]


def test_at_the_end_all_are_told() -> None:
    rig = Rig()
    rig.open(b"a", 9)
    rig.open(b"b", 9)
    rig.queries.end()
    assert rig.ended == [(b"a", "engine_unavailable"), (b"b", "engine_unavailable")]
    assert rig.later == [1, 1]
    assert not rig.queries.busy


def test_no_more_are_begun_than_there_is_room_for() -> None:
    rig = Rig()
    for number in range(MAX_QUERIES + 1):
        rig.open(b"%d" % number, 1)
    assert rig.ended == [(b"%d" % MAX_QUERIES, "overloaded")]
