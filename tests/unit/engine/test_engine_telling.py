"""Which logprobs go out with which text, and which texts go out as one."""

from __future__ import annotations

from hali.engine.telling import TOLD_EVERY_S, Bundle, Untold
from hali.model.generation import Candidate, Chunk, Done, TokenLogprob, ToolCall, ToolCalled, Usage

A, B, C = (TokenLogprob(Candidate(token, b"", -1.0)) for token in range(3))


def test_a_token_goes_out_with_the_first_byte_of_its_text() -> None:
    untold = Untold()
    untold.add(b"the E", A)
    assert untold.take(4) == (A,)
    untold.add(b"N", B)
    assert untold.take(4) == ()
    untold.add(b"V", C)
    assert untold.take(7) == (B, C)
    assert untold.take(7) == ()


def test_a_token_that_begins_where_the_text_ends_so_far_waits() -> None:
    untold = Untold()
    untold.add(b"ab", A)
    untold.add(b"cd", B)
    assert untold.take(2) == (A,)


def test_what_a_stop_string_swallowed_is_never_told() -> None:
    untold = Untold()
    untold.add(b"hi E", A)
    untold.add(b"ND", B)
    assert untold.take(3) == (A,)


def test_without_logprobs_nothing_is_kept() -> None:
    untold = Untold()
    untold.add(b"hi", None)
    assert untold.take(2) == ()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_text_waits_for_the_next_ones_unless_the_last_was_told_long_ago() -> None:
    clock = Clock()
    bundle = Bundle(clock)
    assert bundle.put([Chunk("a", 1)]) == [Chunk("a", 1)]
    clock.now += TOLD_EVERY_S / 2
    assert bundle.put([Chunk("b", 1, logprobs=(A,))]) == []
    assert bundle.put([]) == []
    assert bundle.put([Chunk("c", 2, logprobs=(B,))]) == []
    clock.now += TOLD_EVERY_S
    assert bundle.put([Chunk("d", 1)]) == [Chunk("bcd", 4, logprobs=(A, B))]
    assert bundle.take() == []


def test_a_text_does_not_wait_for_one_that_is_long_in_coming() -> None:
    clock = Clock()
    bundle = Bundle(clock)
    bundle.put([Chunk("a", 1)])
    assert bundle.put([Chunk("b", 1)]) == []
    clock.now += TOLD_EVERY_S
    assert bundle.put([]) == [Chunk("b", 1)]  # a token of a call came: it has no text of its own
    assert bundle.put([]) == []


def test_thoughts_and_answers_stay_apart() -> None:
    bundle = Bundle(Clock())
    bundle.put([Chunk("a", 1)])
    bundle.put([Chunk("b", 1, reasoning=True), Chunk("c", 0)])
    bundle.put([Chunk("d", 1)])
    assert bundle.take() == [Chunk("b", 1, reasoning=True), Chunk("cd", 1)]


def test_a_call_and_the_end_take_all_with_them_at_once() -> None:
    for last in (ToolCalled(0, ToolCall("1", "f", "{}"), 3), Done("stop", Usage(1, 2, 0.1, 0.2))):
        bundle = Bundle(Clock())
        bundle.put([Chunk("a", 1)])
        bundle.put([Chunk("b", 1)])
        assert bundle.put([last]) == [Chunk("b", 1), last]
