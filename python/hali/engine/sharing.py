"""Where a session's first tokens come from: another session's cells, what is kept of past ones, or nowhere. Worker only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hali.engine.cells import Cells
from hali.engine.prefix import BLOCK, GRAIN
from hali.engine.retained import Retained
from hali.engine.session import Session

_STRIDE = 256  # tokens compared at once


class Sharing:
    """Counts cells, and gives new sessions those of equal beginnings. Without `retained` it only counts."""

    def __init__(self, retained: Retained | None) -> None:
        self._retained = retained
        self._donors: dict[Session, tuple[Session, int]] = {}  # who waits for whose first tokens
        self.cells = Cells()

    def enter(self, session: Session, others: Iterable[Session]) -> None:
        """`session` was let in. Where another has, or will soon have, more of its beginning than is kept, it waits for that."""
        if self._retained is None:
            return
        limit = self._retained.reusable(session.tokens)
        free = [other for other in others if not self._waits(other, session)]
        alike = {other: whole(session, min(common(other.tokens, session.tokens), limit)) for other in free}
        donor = max(alike, key=lambda other: alike[other], default=None)
        if donor is not None and alike[donor] >= max(BLOCK, self._retained.kept(session.tokens)):
            self._donors[session] = donor, alike[donor]
        else:
            self._attach(session)

    def _waits(self, session: Session | None, other: Session) -> bool:
        """Whether `session` waits for `other`, if only through others: one that was put back is waited for when it returns."""
        while session is not None and session is not other:
            session = self._donors.get(session, (None, 0))[0]
        return session is other

    def ready(self, session: Session) -> bool:
        """Whether rows of `session` may be computed now: false while another computes its first tokens."""
        if session not in self._donors or self._retained is None:
            return True
        donor, length = self._donors[session]
        if donor.key >= 0 and donor.done < length:
            return False
        del self._donors[session]
        if donor.key >= 0:
            self._retained.share(donor.key, session.key, length)
            self.cells.share(donor.key, session.key, length)
            self._begin(session, length)
        else:
            self._attach(session)  # the donor has ended, and what it had is kept
        return True

    def _attach(self, session: Session) -> None:
        assert self._retained is not None
        length = whole(session, self._retained.kept(session.tokens))
        length = self._retained.attach(session.key, session.tokens, length)
        self.cells.resize(session.key, length)
        self._begin(session, length)

    def _begin(self, session: Session, length: int) -> None:
        session.done = length
        if not session.begun:  # else it has been put back, and computed most of it itself
            session.cached = min(length, session.n_prompt)

    def leave(self, session: Session) -> None:
        """The sequence of `session` holds nothing any more."""
        self._donors.pop(session, None)
        self.cells.resize(session.key, 0)

    def keep(self, session: Session) -> None:
        """Keep what `session` has computed for later ones."""
        if self._retained is not None and session.key >= 0:
            self._retained.keep(session.key, session.tokens[: session.done])


def whole(session: Session, length: int) -> int:
    """The most of `length` positions where `session` can go on: at a multiple of `GRAIN`, and inside no image."""
    while (fits := session.whole(length) // GRAIN * GRAIN) != length:
        length = fits
    return length


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the beginning that both have."""
    most = min(len(one), len(other))
    at = 0
    while at < most and one[at : at + _STRIDE] == other[at : at + _STRIDE]:
        at += _STRIDE
    return next((i for i in range(at, most) if one[i] != other[i]), most) if at < most else most
