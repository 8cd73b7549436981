"""Guesses come from what was said before, and are computed only while they are measured to pay."""

from __future__ import annotations

from hali.engine.speculate import STALE, Candidate, Costs, Guesser, choose


def _costs(**seconds: float) -> Costs:
    costs = Costs()
    for name, value in seconds.items():
        costs.observe(int(name[1:]), value)
    return costs


def _sure(rate: float) -> Guesser:
    guesser = Guesser()
    guesser.rate = rate
    return guesser


AHEAD = (1, 2, 3, 4, 5, 6, 7, 8)


def test_what_followed_the_same_tokens_the_last_time_is_guessed() -> None:
    guesser = Guesser()
    assert guesser.guess([1, 2, 3, 4, 9, 8, 7, 6, 5, 1, 2, 3, 4], 3) == (9, 8, 7)
    assert guesser.guess([1, 2, 3, 4, 9, 8, 7, 6, 5, 1, 2, 3, 4, 9, 5, 3, 4], 2) == (9, 5), "the latest place wins"


def test_a_longer_repetition_counts_for_more_than_a_later_one() -> None:
    assert Guesser().guess([1, 2, 3, 4, 5, 0, 3, 4, 6, 0, 1, 2, 3, 4], 1) == (5,)


def test_a_repetition_goes_on_beyond_the_end() -> None:
    assert Guesser().guess([7, 8, 7, 8, 7, 8], 5) == (7, 8, 7, 8, 7)


def test_nothing_is_guessed_where_nothing_repeats() -> None:
    assert Guesser().guess([1, 2, 3, 4, 5], 4) == ()
    assert Guesser().guess([], 4) == ()


def test_the_rate_follows_what_came_true_also_without_computing_ahead() -> None:
    guesser, tokens = Guesser(), [1, 2, 1, 2]
    for token in (1, 2) * 20:
        guesser.guess(tokens, 1)
        tokens.append(token)
        guesser.learn([token])
    assert guesser.rate > 0.9
    for number in range(40):
        tokens += [1, 2]
        guesser.guess(tokens, 1)
        tokens.append(100 + number)
        guesser.learn([100 + number])
    assert guesser.rate < 0.05


def test_a_guess_is_judged_up_to_its_first_error() -> None:
    one, other = Guesser(), Guesser()
    one.guess([1, 2, 1, 2], 4)
    one.learn([1, 9, 1, 2])
    other.rate += 0.1 * (1 - other.rate)
    other.rate += 0.1 * (0 - other.rate)
    assert one.rate == other.rate


def test_cheap_rows_and_good_guesses_pay_dear_rows_or_bad_guesses_do_not() -> None:
    cheap, dear = _costs(_1=10, _2=11, _3=11, _5=12, _9=14), _costs(_1=10, _2=20, _3=30, _5=50, _9=90)
    assert choose([Candidate(0, _sure(0.95), AHEAD)], 1, 100, cheap, "auto") == {0: AHEAD}
    assert choose([Candidate(0, _sure(0.5), AHEAD)], 1, 100, cheap, "auto") == {0: AHEAD[:4]}
    assert choose([Candidate(0, _sure(0.05), AHEAD)], 1, 100, cheap, "auto") == {}
    assert choose([Candidate(0, _sure(0.95), AHEAD)], 1, 100, dear, "auto") == {}


def test_always_means_always_but_never_more_than_there_is_room_for() -> None:
    dear = _costs(_1=10, _9=90)
    assert choose([Candidate(0, _sure(0.0), AHEAD)], 1, 100, dear, "always") == {0: AHEAD}
    both = [Candidate(0, _sure(0.9), AHEAD), Candidate(1, _sure(0.9), AHEAD)]
    assert choose(both, 2, 11, dear, "always") == {0: AHEAD, 1: AHEAD[:2]}
    assert choose([Candidate(0, _sure(0.9), ())], 1, 100, dear, "always") == {}


def test_nothing_is_computed_ahead_before_a_batch_was_measured() -> None:
    assert choose([Candidate(0, _sure(1.0), AHEAD)], 1, 100, Costs(), "auto") == {}


def test_a_width_that_was_never_tried_costs_what_prompt_rows_do() -> None:
    costs = _costs(_1=10)
    costs.observe_prompt(100, 300)
    assert costs.of(5) == 10 + 4 * 3
    costs.observe(5, 11)
    assert costs.of(5) == 11, "measured"


def test_one_slow_decode_among_many_changes_nothing_and_old_timings_are_forgotten() -> None:
    costs = _costs(_1=10)
    for seconds in (10, 500, 10, 10):
        costs.observe(1, seconds)
    assert costs.of(1) == 10
    costs.observe(4, 99)
    for _ in range(STALE + 1):
        costs.observe(1, 10)
    assert costs.of(4) == 10, "tried again as if for the first time"
