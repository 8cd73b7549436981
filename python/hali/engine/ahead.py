"""Guessed tokens in the batches of the loop: which are added, what they cost, how many were right. Worker only."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from hali.engine.drafter import Drafter
from hali.engine.drafting import Draftable
from hali.engine.schedule import Slice
from hali.engine.session import Session
from hali.engine.speculate import WIDTHS, Candidate, Costs, Speculation, choose
from hali.model.errors import EngineFailed

Guess = tuple[int, ...]


class LookAhead:
    """Adds to batches of single rows what the sessions may say next: beside prompts there is no room to win.

    What was said before costs nothing to look up, so it comes first; the draft model is for those that do not repeat themselves.
    """

    def __init__(self, mode: Speculation, drafter: Drafter | None = None) -> None:
        self._mode: Speculation = mode
        self._costs = Costs()
        self._drafter = drafter
        self._drafts: dict[Session, Guess] = {}  # of the batch under way
        self.drafted = self.accepted = 0

    def add(self, slices: tuple[Slice, ...], sessions: Mapping[int, Session], room: int) -> tuple[Slice, ...]:
        """`slices` of `sessions`, with at most `room` rows more."""
        self._drafts = {}
        if self._mode == "off" or not _all_decode(slices, sessions):
            return slices
        candidates = [_candidate(sessions[part.key]) for part in slices]
        if self._mode == "always":  # the draft model for all that it can guess for, else what was said before
            self._drafts = self._draft(candidates, {}, sessions, room)
            room -= sum(map(len, self._drafts.values()))
            candidates = [one for one in candidates if sessions[one.key] not in self._drafts]
        ahead = choose(candidates, len(slices), room, self._costs, self._mode)
        if self._mode == "auto":
            room -= sum(map(len, ahead.values()))
            self._drafts = self._draft(candidates, ahead, sessions, room)
        ahead |= {session.key: guess for session, guess in self._drafts.items()}
        return tuple(Slice(part.key, part.count, ahead.get(part.key, ())) for part in slices)

    def plain(self, slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
        """`slices` as they are: there is no time to guess."""
        self._drafts = {}
        return slices

    def _draft(
        self, candidates: list[Candidate], ahead: Mapping[int, Guess], sessions: Mapping[int, Session], room: int
    ) -> dict[Session, Guess]:
        """Guesses of the draft model for those that are not in `ahead`."""
        drafter = self._drafter
        if drafter is None:
            return {}
        rest = [sessions[one.key] for one in candidates if one.key not in ahead and not sessions[one.key].sees]
        drafts = [draft for draft in (_draftable(session, drafter) for session in rest) if draft.most > 0]
        tokens = sum(1 + one.guesser.expected(len(ahead.get(one.key, ()))) for one in candidates)
        rows = len(candidates) + sum(map(len, ahead.values()))
        widths = drafter.drafting.widths(drafts, rows, tokens, room, self._costs)
        try:
            found = drafter.guess(widths, {session.key: session.tokens for session in rest})
        except EngineFailed as error:  # it costs its guesses, not the replies
            sys.stderr.write(f"engine worker: the draft model is given up: {error}\n")
            self._drafter = None
            return {}
        return {sessions[key]: guess for key, guess in found.items() if guess}

    def measure(self, slices: tuple[Slice, ...], sessions: Mapping[int, Session], seconds: float) -> None:
        """The decode of `slices` took so long; before its tokens are drawn."""
        if self._mode == "off":
            return
        rows = sum(part.rows for part in slices)
        if _all_decode(slices, sessions):
            self._costs.observe(rows, seconds)
            if self._drafter is not None:
                self._drafter.drafting.replied(seconds, drafted=bool(self._drafts))
        else:
            self._costs.observe_prompt(rows, seconds)

    def learn(self, session: Session, ahead: tuple[int, ...], right: int, begin: int) -> None:
        """The first `right` of `ahead` came true; what came in truth are the tokens from `begin` on."""
        if self._mode == "off":
            return
        self.drafted += len(ahead)
        self.accepted += right
        followed = session.tokens[begin:]
        session.guesser.learn(followed)
        drafted = self._drafts.get(session)
        if drafted and self._drafter is not None and session.draft_hits is not None:
            self._drafter.drafting.learn(session.draft_hits, drafted, followed, right)

    def leave(self, key: int) -> None:
        """The session with this key is over, or has stepped back."""
        if self._drafter is not None:
            self._drafter.leave(key)


def _candidate(session: Session) -> Candidate:
    most = min(WIDTHS[-1], session.left - 1)
    return Candidate(session.key, session.guesser, session.guesser.guess(session.tokens, most))


def _draftable(session: Session, drafter: Drafter) -> Draftable:
    if session.draft_hits is None:
        session.draft_hits = drafter.drafting.hits()
    most = min(WIDTHS[-1], session.left - 1, drafter.most(session.tokens))
    return Draftable(session.key, session.draft_hits, most, len(session.tokens))


def _all_decode(slices: tuple[Slice, ...], sessions: Mapping[int, Session]) -> bool:
    return all(part.count == 1 and sessions[part.key].decoding for part in slices)
