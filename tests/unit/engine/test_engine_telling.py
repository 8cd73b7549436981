"""Which logprobs go out with which text."""

from __future__ import annotations

from hali.engine.telling import Untold
from hali.model.generation import Candidate, TokenLogprob

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
