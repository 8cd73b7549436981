"""When a worker is asked whether it lives, and when it is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hali.engine.pulse import ANSWER_S, QUIET_S, SILENCE_S, Pulse


def begun(now: float = 100.0) -> Pulse:
    pulse = Pulse()
    pulse.begin(now)
    return pulse


def test_one_that_stands_still_is_asked_once_and_given_up_at_the_stated_time() -> None:
    pulse = begun()
    assert pulse.look_at() == 100 + QUIET_S
    assert pulse.judge(100 + QUIET_S) == "ask"
    assert pulse.judge(100 + QUIET_S) == "fine"  # another reply waits too
    assert pulse.look_at() == 100 + QUIET_S + ANSWER_S
    assert pulse.judge(100 + QUIET_S + ANSWER_S) == "hung"


def test_one_that_answers_is_asked_again_and_given_up_only_when_its_work_stands_still() -> None:
    pulse, now, asked = begun(), 100.0, 0
    while (verdict := pulse.judge(now)) != "silent":
        if verdict == "ask":
            asked += 1
            pulse.heard(now + 0.01, work=False)
        now = pulse.look_at()
    assert now == 100 + SILENCE_S
    assert asked == SILENCE_S // (QUIET_S + 0.01)


@given(st.lists(st.tuples(st.floats(0.0, QUIET_S + ANSWER_S - 0.001), st.booleans()), max_size=30))
def test_one_that_works_is_never_given_up(gaps: list[tuple[float, bool]]) -> None:
    pulse, now = begun(), 100.0
    for gap, question in gaps:
        while pulse.look_at() < now + gap:
            assert pulse.judge(pulse.look_at()) == "ask"
        now += gap
        pulse.heard(now, work=not question or gap > 5)


def test_an_idle_one_has_nothing_to_say() -> None:
    pulse = begun()
    pulse.begin(100 + 2 * SILENCE_S)
    assert pulse.judge(100 + 2 * SILENCE_S + 1) == "fine"
