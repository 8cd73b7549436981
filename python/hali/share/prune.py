"""Which models give way when space is wanted: a pure function of what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class Candidate(msgspec.Struct, frozen=True):
    """A model of the store as the planner sees it."""

    sha256: str
    model_id: str
    size: int  # bytes
    last_used: float  # seconds since 1970: run, sent to others or fetched
    keep: str | None = None  # why it must stay: pinned, in memory, being sent, …


def choose(
    candidates: Iterable[Candidate], *, now: float, quota: int | None = None, older_than: float | None = None
) -> list[Candidate]:
    """Models to remove, least recently used first; never one with a reason to keep it.

    `older_than` (seconds) takes all that were not used for so long; then `quota` (bytes over all models) takes more until the
    rest fits, and not one more than that needs.
    """
    known = list(candidates)
    free = sorted((c for c in known if c.keep is None), key=lambda c: (c.last_used, c.sha256))
    excess = 0 if quota is None else sum(c.size for c in known) - quota
    chosen = []
    for candidate in free:
        if excess <= 0 and not _is_old(candidate, now, older_than):
            break  # all that follow were used later
        chosen.append(candidate)
        excess -= candidate.size
    return chosen


def _is_old(candidate: Candidate, now: float, older_than: float | None) -> bool:
    return older_than is not None and now - candidate.last_used >= older_than


def shortfall(candidates: Iterable[Candidate], chosen: Sequence[Candidate], quota: int | None) -> int:
    """Bytes above the quota that remain when `chosen` are gone: the rest must be kept."""
    if quota is None:
        return 0
    gone = {candidate.sha256 for candidate in chosen}
    return max(0, sum(c.size for c in candidates if c.sha256 not in gone) - quota)
