"""Two sources of guesses: what was said before, which costs nothing, and a draft model for the rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("llama_cpp")

from hali.engine.ahead import LookAhead
from hali.engine.drafter import Drafter
from hali.engine.drafting import Drafting
from hali.engine.schedule import Slice
from hali.engine.session import Drawer, Session
from hali.engine.speculate import Speculation
from hali.engine.telling import Drawn
from hali.model.errors import EngineFailed
from hali.model.generation import SamplingParams

REPEATS, NEW = (0, [5, 6, 7, 8, 5, 6, 7, 8, 5, 6, 7]), (1, list(range(40, 60)))
DRAFTED = (1, 2, 3, 4, 5, 6, 7, 8)


class FakeDrafter:
    """Guesses the same for everybody, and notes who asked."""

    def __init__(self, mode: Speculation) -> None:
        self.drafting = Drafting(mode)
        for sessions in (1, 2):
            self.drafting.decoded(sessions, 0.001)
        self.asked: list[dict[int, int]] = []
        self.fails = False

    def most(self, tokens: list[int]) -> int:
        return 100

    def guess(self, widths: dict[int, int], texts: dict[int, list[int]]) -> dict[int, tuple[int, ...]]:
        if self.fails:
            raise EngineFailed("llama_decode failed")
        self.asked.append(widths)
        return {key: DRAFTED[:width] for key, width in widths.items()}


def session(key: int, prompt: list[int]) -> Session:
    sampler = SimpleNamespace(drawn=Drawn)
    found = Session(
        b"%d" % key, prompt[:-1], SamplingParams(), stops=(), n_ctx=1000, sampler=cast(Drawer, cast(Any, sampler))
    )
    found.key = key
    found.accept(prompt[-1], b"x", is_end=False)
    found.done = len(prompt) - 1
    return found


def rig(mode: Speculation) -> tuple[LookAhead, FakeDrafter, dict[int, Session]]:
    drafter = FakeDrafter(mode)
    ahead, sessions = LookAhead(mode, cast(Drafter, drafter)), {key: session(key, text) for key, text in (REPEATS, NEW)}
    for rows in range(1, 30):  # a row more costs next to nothing
        ahead._costs.observe(rows, 0.1 + rows / 1000)
    for one in sessions.values():
        one.guesser.rate = 0.9
    return ahead, drafter, sessions


def test_who_repeats_itself_needs_no_draft_and_the_others_get_one() -> None:
    ahead, drafter, sessions = rig("auto")
    slices = ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    assert slices[0].ahead[:4] == (8, 5, 6, 7)
    assert slices[1].ahead == DRAFTED[: len(slices[1].ahead)] != ()
    assert [list(asked) for asked in drafter.asked] == [[1]]


def test_always_the_draft_model_guesses_where_it_can_and_else_what_was_said_before() -> None:
    ahead, drafter, sessions = rig("always")
    slices = ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    assert [part.ahead for part in slices] == [DRAFTED, DRAFTED]
    drafter.guess = lambda widths, texts: {}  # type: ignore[method-assign]  # while it reads
    slices = ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    assert [part.ahead[:4] for part in slices] == [(8, 5, 6, 7), ()]


def test_both_together_take_no_more_rows_than_there_are() -> None:
    for mode in ("auto", "always"):
        for room in range(20):
            ahead, _, sessions = rig(mode)
            slices = ahead.add((Slice(0, 1), Slice(1, 1)), sessions, room)
            assert sum(len(part.ahead) for part in slices) <= room


def test_only_the_source_of_a_guess_learns_from_it_but_what_repeats_is_a_lesson_for_free() -> None:
    ahead, drafter, sessions = rig("auto")
    slices = ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    ahead.measure(slices, sessions, 0.1)
    rates = {}
    for part in slices:
        one = sessions[part.key]
        begin = len(one.tokens)
        one.accept(part.ahead[0], b"x", is_end=False)
        one.accept(99, b"x", is_end=False)
        one.key = -1  # it ended with that token
        ahead.learn(one, part.ahead, 1, begin)
        rates[part.key] = one.draft_hits.rate if one.draft_hits else None
    assert rates[0] is None, "the draft model was not asked"
    assert rates[1] is not None and rates[1] < 0.5
    assert (ahead.drafted, ahead.accepted) == (sum(len(part.ahead) for part in slices), 2)
    assert drafter.drafting.hits().rate == rates[1]


def test_a_draft_model_that_fails_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    ahead, drafter, sessions = rig("auto")
    drafter.fails = True
    slices = ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    assert [bool(part.ahead) for part in slices] == [True, False]
    assert "the draft model is given up: llama_decode failed" in capsys.readouterr().err
    drafter.fails = False
    ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    assert drafter.asked == []


def test_who_is_still_being_read_gets_what_was_said_before_in_the_rows_that_are_left() -> None:
    ahead, drafter, sessions = rig("always")
    drafter.guess = lambda widths, texts: {1: DRAFTED[: widths[1]]}  # type: ignore[method-assign]
    sessions[1] = session(1, REPEATS[1])
    slices = ahead.add((Slice(1, 1), Slice(0, 1)), {1: sessions[1], 0: sessions[0]}, 10)
    assert [part.ahead for part in slices] == [DRAFTED, (8, 5)]


def test_a_batch_that_takes_too_long_with_its_drafts_ends_them() -> None:
    ahead, drafter, sessions = rig("auto")
    slices = ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    ahead.measure(slices, sessions, 10.0)
    ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    assert [bool(asked) for asked in drafter.asked] == [True, False]


def test_in_a_batch_without_guesses_nobody_learns_from_those_of_the_batch_before() -> None:
    ahead, drafter, sessions = rig("auto")
    ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    slices = ahead.plain((Slice(0, 1), Slice(1, 1)))
    ahead.measure(slices, sessions, 10.0)
    begin = len(sessions[1].tokens)
    sessions[1].accept(99, b"x", is_end=False)
    sessions[1].done += 1
    ahead.learn(sessions[1], (), 0, begin)
    assert drafter.drafting.hits().rate == 0.5
    ahead.add((Slice(0, 1), Slice(1, 1)), sessions, 100)
    assert [bool(asked) for asked in drafter.asked] == [True, True], "the slow batch was none with drafts"
