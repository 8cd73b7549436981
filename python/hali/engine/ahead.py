"""Guessed tokens in the batches of the loop: which are added, what they cost, how many were right. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hali.engine.schedule import Slice
from hali.engine.session import Session
from hali.engine.speculate import WIDTHS, Candidate, Costs, Speculation, choose


class LookAhead:
    """Adds to batches of single rows what the sessions may say next: beside prompts there is no room to win."""

    def __init__(self, mode: Speculation) -> None:
        self._mode: Speculation = mode
        self._costs = Costs()
        self.drafted = self.accepted = 0

    def add(self, slices: tuple[Slice, ...], sessions: Mapping[int, Session], room: int) -> tuple[Slice, ...]:
        """`slices` of `sessions`, with at most `room` rows more."""
        if self._mode == "off" or not _all_decode(slices, sessions):
            return slices
        candidates = [_candidate(sessions[part.key]) for part in slices]
        ahead = choose(candidates, len(slices), room, self._costs, self._mode)
        return tuple(Slice(part.key, part.count, ahead.get(part.key, ())) for part in slices)

    def measure(self, slices: tuple[Slice, ...], sessions: Mapping[int, Session], seconds: float) -> None:
        """The decode of `slices` took so long; before its tokens are drawn."""
        if self._mode == "off":
            return
        rows = sum(part.rows for part in slices)
        if _all_decode(slices, sessions):
            self._costs.observe(rows, seconds)
        else:
            self._costs.observe_prompt(rows, seconds)

    def learn(self, session: Session, ahead: tuple[int, ...], right: int, begin: int) -> None:
        """The first `right` of `ahead` came true; what came in truth are the tokens from `begin` on."""
        if self._mode == "off":
            return
        self.drafted += len(ahead)
        self.accepted += right
        session.guesser.learn(session.tokens[begin:])


def _candidate(session: Session) -> Candidate:
    most = min(WIDTHS[-1], session.left - 1)
    return Candidate(session.key, session.guesser, session.guesser.guess(session.tokens, most))


def _all_decode(slices: tuple[Slice, ...], sessions: Mapping[int, Session]) -> bool:
    return all(part.count == 1 and sessions[part.key].decoding for part in slices)
