"""Whether it pays to let a draft model guess, for whom and how many tokens. Pure: seconds are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hali.engine.speculate import STALE, WIDTHS, Costs, HitRate, Speculation

TRIAL = 2  # tokens drafted to find out: few, for nothing is known, but not the first one's decode alone: it reads too
SHARE = 0.03  # of the time of the replies that may be lost to finding out whether drafts pay
BURST_S = 1.0  # lost at once: a text must be read whole before a trial, and grows while one saves up for it
CREDIT_S = 4.0  # most that is put by: a draft reads a prompt of thousands of tokens in it
HOPE = 0.9  # the best hit rate to hope for: a draft model that would not pay with it is not tried again
OLD = 16 * STALE  # decodes after which a draft's timing counts no more; to measure it costs the reading of a text


@dataclass(frozen=True, slots=True)
class Draftable:
    """A session of `length` tokens that the draft model can guess at most `most` more of."""

    key: int
    hits: HitRate
    most: int
    length: int


class Drafting:
    """Learns what drafts cost and win, and chooses their widths.

    All that is spent on them and all that they win is booked, in seconds, and without credit nothing is drafted. So a draft
    model that does not pay costs `SHARE` of the time at the most, whatever the estimates say, and one that pays earns
    what the reading of the next session's prompt costs.
    """

    def __init__(self, mode: Speculation) -> None:
        self._mode: Speculation = mode
        self._costs = Costs(OLD)  # of the draft model's own decodes
        self._overall = HitRate()
        self._credit = BURST_S
        self._open = True  # while there is credit; once it is used up, until there is enough for a burst
        self._plain = 0.0  # seconds that the batch under way would take without drafts
        self._token_s = 0.0  # and then for each token

    def hits(self) -> HitRate:
        """Of a new session: as of those before it."""
        return HitRate(self._overall.rate)

    # --- the choice

    def widths(self, drafts: Sequence[Draftable], rows: int, tokens: float, room: int, costs: Costs) -> dict[int, int]:
        """Tokens to draft by session, in a batch of `rows` rows that is expected to give `tokens`, and takes `room` rows more.

        The width is the same for all that draft, because they do it in the same decodes: that which gives the batch the
        most tokens per second, its drafts included. Where none does, one session may find out from time to time.
        """
        if self._mode == "always":
            return self._all(drafts, room)
        now = costs.of(rows)
        if not now or not drafts or not self._open:
            return {}
        self._plain, self._token_s = now, now / tokens
        if self._costs.of(1) is None:  # the shortest text: it is the soonest read
            return self._trial(min(drafts, key=lambda draft: draft.length), room)
        likeliest = sorted(drafts, key=lambda draft: -draft.hits.rate)
        found = self._best(likeliest, rows, tokens, room, costs)
        if found or not self._best(_hoped(likeliest), rows, tokens, room, costs):
            return found
        return self._trial(likeliest[0], room)  # if it is right more often than is known, it pays

    def _all(self, drafts: Sequence[Draftable], room: int) -> dict[int, int]:
        chosen = {}
        for draft in drafts:
            width = max((width for width in WIDTHS if width <= min(draft.most, room)), default=0)
            if width:
                chosen[draft.key], room = width, room - width
        return chosen

    def _best(self, drafts: Sequence[Draftable], rows: int, tokens: float, room: int, costs: Costs) -> dict[int, int]:
        """The likeliest first, as many as raise the tokens per second."""
        chosen: dict[int, int] = {}
        speed = 1 / self._token_s
        for width in WIDTHS:
            able = [draft for draft in drafts if draft.most >= width][: room // width]
            gained = tokens
            for count, draft in enumerate(able, 1):
                gained += draft.hits.expected(width)
                if count & (count - 1) and count < len(able):
                    continue  # 1, 2, 4, … and all: this is done at each step
                seconds = (costs.of(rows + count * width) or self._plain) + width * (self._costs.of(count) or 0)
                if gained / seconds > speed:
                    chosen, speed = {one.key: width for one in able[:count]}, gained / seconds
        return chosen

    def _trial(self, draft: Draftable, room: int) -> dict[int, int]:
        width = min(TRIAL, draft.most, room)
        return {draft.key: width} if width > 0 else {}

    # --- what is measured

    def decoded(self, sessions: int, seconds: float) -> None:
        """The draft model took so long for a token of each of so many sessions."""
        self._costs.observe(sessions, seconds)
        self._book(-seconds)

    def read(self, rows: int, seconds: float) -> None:
        """The draft model took so long to read on in texts that it lacked."""
        self._costs.observe_prompt(rows, seconds)
        self._book(-seconds)

    def replied(self, seconds: float, *, drafted: bool) -> None:
        """The batch took so long, drafts of the last `widths` in it or none."""
        if drafted:
            self._book(self._plain - seconds)
        else:
            self._costs.age()
            self._book(SHARE * seconds)

    def learn(self, hits: HitRate, guessed: Sequence[int], followed: Sequence[int], right: int) -> None:
        """For one session, of what was `guessed` the first `right` tokens came true; they needed no decodes of their own."""
        hits.judge(guessed, followed)
        self._overall.judge(guessed, followed)
        self._book(right * self._token_s)

    def _book(self, seconds: float) -> None:
        self._credit = min(CREDIT_S, self._credit + seconds)
        self._open = self._credit > (0 if self._open else BURST_S)


def _hoped(drafts: Sequence[Draftable]) -> list[Draftable]:
    """As if nearly all that they guess came true."""
    return [Draftable(draft.key, HitRate(HOPE), draft.most, draft.length) for draft in drafts]
