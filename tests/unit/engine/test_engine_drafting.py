"""A draft model guesses only while what it wins is measured to be more than what it costs."""

from __future__ import annotations

from random import Random

import pytest

from hali.engine.drafting import BURST_S, CREDIT_S, OLD, SHARE, TRIAL, Draftable, Drafting
from hali.engine.speculate import WIDTHS, Costs, HitRate, Speculation

ROOM = 500


def costs(step: float, row: float, most: int = 80) -> Costs:
    """A decode takes `step`, and `row` more for each row after the first."""
    found = Costs()
    for rows in range(1, most):
        found.observe(rows, step + row * (rows - 1))
    return found


def knowing(draft_s: float, sessions: int = 1, mode: Speculation = "auto") -> Drafting:
    """Each decode of the draft model takes `draft_s`, and it has won much."""
    found = Drafting(mode)
    for rows in range(1, sessions + 1):
        found.decoded(rows, draft_s)
    found.replied(1e6, drafted=False)
    return found


def session(rate: float, key: int = 0, most: int = 8, length: int = 1) -> Draftable:
    return Draftable(key, HitRate(rate), most, length)


def test_a_cheap_draft_that_is_often_right_guesses_as_far_as_it_pays() -> None:
    drafting, target = knowing(1), costs(10, 0.5)
    assert drafting.widths([session(0.95)], 1, 1, ROOM, target) == {0: 8}
    assert drafting.widths([session(0.6)], 1, 1, ROOM, target) == {0: 2}
    assert drafting.widths([session(0.95, most=3)], 1, 1, ROOM, target) == {0: 2}
    assert drafting.widths([session(0.95)], 1, 1, 5, target) == {0: 4}
    assert drafting.widths([session(0.95)], 1, 1, 0, target) == {}
    assert drafting.widths([], 1, 1, ROOM, target) == {}


def test_a_draft_as_slow_as_the_model_never_guesses_however_right_it_is() -> None:
    for sessions in (1, 2, 8):
        drafts = [session(1.0, key) for key in range(sessions)]
        assert knowing(10, sessions).widths(drafts, sessions, sessions, ROOM, costs(10, 0.1)) == {}


def test_rows_that_cost_as_much_as_decodes_leave_nothing_to_win() -> None:
    assert knowing(0.1).widths([session(0.9)], 1, 1, ROOM, costs(10, 10)) == {}


def test_who_is_seldom_right_is_left_out_and_the_others_guess_together() -> None:
    drafts = [session(0.1, 0), session(0.9, 1), session(0.95, 2), session(0.05, 3)]
    chosen = knowing(1, 4).widths(drafts, 4, 4, ROOM, costs(10, 1))
    assert sorted(chosen) == [1, 2]
    assert len(set(chosen.values())) == 1, "in the same decodes"


def test_always_means_always_but_never_more_than_there_is_room_for() -> None:
    drafting = Drafting("always")
    assert drafting.widths([session(0.0), session(0.0, 1)], 2, 2, 11, Costs()) == {0: 8, 1: 2}
    assert drafting.widths([session(0.0, most=0)], 1, 1, ROOM, Costs()) == {}


def test_nothing_is_drafted_before_a_decode_without_drafts_was_measured() -> None:
    assert Drafting("auto").widths([session(1.0)], 1, 1, ROOM, Costs()) == {}


def test_what_a_draft_costs_is_found_out_with_few_tokens_of_the_text_that_is_soonest_read() -> None:
    drafts = [session(0.9, 0, length=900), session(0.1, 1, length=30)]
    assert Drafting("auto").widths(drafts, 2, 2, ROOM, costs(10, 1)) == {1: TRIAL}
    assert Drafting("auto").widths([session(0.9, most=1)], 1, 1, ROOM, costs(10, 1)) == {0: 1}


def test_timings_get_old_by_replies_without_drafts_and_are_then_found_out_anew() -> None:
    drafting, target = knowing(10), costs(10, 0.1)
    for _ in range(OLD):
        assert drafting.widths([session(1.0)], 1, 1, ROOM, target) == {}
        drafting.replied(10, drafted=False)
    assert drafting.widths([session(1.0)], 1, 1, ROOM, target) == {0: TRIAL}


def test_who_was_seldom_right_may_try_again_where_it_would_pay_if_it_were() -> None:
    drafting, target = knowing(1), costs(10, 0.5)
    assert drafting.widths([session(0.05)], 1, 1, ROOM, target) == {0: TRIAL}
    drafting.decoded(1, CREDIT_S + 1)
    assert drafting.widths([session(0.05)], 1, 1, ROOM, target) == {}, "at the cost of a share of the time"
    drafting.replied(1.5 / SHARE, drafted=False)
    assert drafting.widths([session(0.05)], 1, 1, ROOM, target) == {}, "enough for a burst is saved up first"
    drafting.replied(BURST_S / SHARE, drafted=False)
    assert drafting.widths([session(0.05)], 1, 1, ROOM, target) == {0: TRIAL}


def test_without_credit_nothing_is_drafted_and_what_came_true_earns_it_back() -> None:
    drafting, target, hits = knowing(1), costs(10, 0.5), HitRate(0.95)
    assert drafting.widths([Draftable(0, hits, 8, 1)], 1, 1, ROOM, target) == {0: 8}
    drafting.read(4000, CREDIT_S + 26)  # a long prompt
    assert drafting.widths([Draftable(0, hits, 8, 1)], 1, 1, ROOM, target) == {}
    drafting.replied(14, drafted=True)  # 4 more than without
    drafting.learn(hits, (1, 2, 3), (1, 2, 3, 4), 3)  # 30 won
    assert drafting.widths([Draftable(0, hits, 8, 1)], 1, 1, ROOM, target) == {}
    drafting.learn(hits, (1,), (1, 2), 1)
    assert drafting.widths([Draftable(0, hits, 8, 1)], 1, 1, ROOM, target) == {0: 8}


def test_a_new_session_begins_with_what_was_learned_from_those_before() -> None:
    drafting = Drafting("auto")
    before = drafting.hits()
    for _ in range(30):
        drafting.learn(before, (1, 2), (9,), 0)
    assert drafting.hits().rate == before.rate < 0.05


class Machine:
    """An engine of one session with a draft model: what each takes, how often a guess is right; and the time that passes."""

    def __init__(self, step: float, row: float, draft: float, right: float, seed: int, prompt: int = 0) -> None:
        self.step, self.row, self.draft, self.right = step, row, draft, right
        self.random, self.drafting, self.target = Random(seed), Drafting("auto"), Costs()
        self.hits, self.unread = self.drafting.hits(), prompt
        self.now, self.tokens, self.drafted = 0.0, 0, 0

    def _noisy(self, seconds: float) -> float:
        took = seconds * self.random.uniform(0.95, 1.15)
        self.now += took
        return took

    def reply(self) -> None:
        length = self.unread + 1
        width = self.drafting.widths([Draftable(0, self.hits, 8, length)], 1, 1, ROOM, self.target).get(0, 0)
        if width and self.unread > WIDTHS[-1]:
            rows = min(self.unread, 256)
            self.drafting.read(rows, self._noisy(rows * self.draft / 4))
            self.unread, width = self.unread - rows, 0
        for _ in range(width):
            self.drafting.decoded(1, self._noisy(self.draft))
        took = self._noisy(self.step + self.row * width)
        self.target.observe(1 + width, took)
        self.drafting.replied(took, drafted=width > 0)
        right = next((at for at in range(width) if self.random.random() >= self.right), width)
        if width:
            guess = (1,) * width
            self.drafting.learn(self.hits, guess, (1,) * right + (2,), right)
        self.unread = 0 if width else self.unread + 1
        self.tokens, self.drafted = self.tokens + 1 + right, self.drafted + width


@pytest.mark.parametrize("seed", range(6))
def test_where_drafts_pay_they_are_found_to_and_speed_the_replies_up(seed: int) -> None:
    machine = Machine(step=0.05, row=0.002, draft=0.006, right=0.85, seed=seed, prompt=500)
    for _ in range(2000):
        machine.reply()
    assert machine.tokens / machine.now > 1.5 / 0.05
    assert machine.drafted > 2000


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("draft", "right"), [(0.05, 1.0), (0.05, 0.7), (0.006, 0.02), (0.03, 0.5)], ids=["itself", "slow", "wrong", "both"]
)
@pytest.mark.parametrize("prompt", [0, 4000])
def test_where_drafts_do_not_pay_no_more_than_a_share_of_the_time_is_lost(
    draft: float, right: float, prompt: int, seed: int
) -> None:
    machine = Machine(step=0.05, row=0.002, draft=draft, right=right, seed=seed, prompt=prompt)
    for _ in range(4000):
        machine.reply()
    plain = machine.tokens * 0.05 * 1.05  # the mean of the noise
    one_piece = 256 * draft / 4 * 1.15  # may be begun with the last of the credit
    assert machine.now <= plain * (1 + SHARE) + BURST_S + one_piece + 0.01 * plain


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_measured_the_choice_fits_and_is_of_those_who_asked(seed: int) -> None:
    random = Random(seed)
    mode: Speculation = random.choice(["auto", "always"])
    drafting, target = Drafting(mode), Costs()
    for _ in range(300):
        drafts = [
            session(random.random(), key, random.choice([1, 3, 8, 400]), random.randrange(1, 2000))
            for key in range(random.randrange(5))
        ]
        rows, room = random.randrange(1, 9), random.randrange(20)
        chosen = drafting.widths(drafts, rows, rows + random.random(), room, target)
        most = {draft.key: draft.most for draft in drafts}
        assert sum(chosen.values()) <= room
        assert all(0 < width <= most[key] and width <= WIDTHS[-1] for key, width in chosen.items())
        if chosen:
            drafting.decoded(random.randrange(1, 9), random.random() / 10)
        target.observe(random.randrange(1, 20), random.random())
        drafting.replied(random.random(), drafted=bool(chosen))
        if chosen:
            right = random.randrange(3)
            drafting.learn(HitRate(), (1, 2), (*(1, 2)[:right], 9), right)
