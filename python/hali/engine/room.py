"""Who is let in: sequence ids and KV cells of one model, the sessions that have them and those that wait. Worker only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hali.engine import schedule as plan
from hali.engine.backend import Model
from hali.engine.retained import Retained
from hali.engine.session import Session
from hali.engine.sharing import Sharing
from hali.model.errors import Overloaded

MAX_QUEUED = 256  # requests waiting in the worker; the router's own queue in front of it is shorter


class Room:
    """Sessions from the queue to their end. Whoever is out holds no sequence, no cell and nothing native."""

    def __init__(
        self, model: Model, retained: Retained | None, n_seq_max: int, on_leave: Callable[[int], None]
    ) -> None:
        self._model, self._on_leave = model, on_leave
        self.sharing = Sharing(retained)
        self.running: dict[int, Session] = {}  # by key, oldest first
        self.waiting: deque[Session] = deque()
        self.sequences_free = list(range(n_seq_max - 1, -1, -1))  # the lowest on top
        self.preempted = 0

    @property
    def kv_free(self) -> int:
        """KV cells that nobody has."""
        return self._model.n_kv - self.sharing.cells.used

    def check(self) -> None:
        """Overloaded if nobody more may wait."""
        if len(self.waiting) >= MAX_QUEUED:
            raise Overloaded(f"{MAX_QUEUED} requests already wait for this model", details={"retry_after_s": 5})

    def everyone(self) -> list[Session]:
        """Who runs and who waits."""
        return [*self.running.values(), *self.waiting]

    def admit(self) -> None:
        """Let in as many as there are sequence ids and KV cells for."""
        while self.waiting and plan.may_enter(
            len(self.waiting[0].tokens),
            running=len(self.running),
            committed=self._committed(),
            n_kv=self._model.n_kv,
            slots_free=len(self.sequences_free),
        ):
            if not self.running:
                self._model.clear()
            session = self.waiting.popleft()
            session.key = self.sequences_free.pop()
            self.sharing.enter(session, self.running.values())
            self.running[session.key] = session

    def _committed(self) -> int:
        """Cells taken, and those that the tokens known by now will take."""
        pending = sum(len(session.tokens) - session.done for session in self.running.values())
        return self.sharing.cells.used + pending

    def release(self, session: Session) -> None:
        """It is over."""
        session.close()
        if session.key < 0:
            self.waiting.remove(session)
        else:
            self._vacate(session)

    def put_back(self, session: Session) -> None:
        """It waits, first of all, and computes its text again later."""
        self.preempted += 1
        self.sharing.keep(session)
        self._vacate(session)
        self.waiting.appendleft(session)

    def _vacate(self, session: Session) -> None:
        self._model.forget(session.key)
        self._on_leave(session.key)
        self.sharing.leave(session)
        del self.running[session.key]
        self.sequences_free.append(session.key)
        session.key, session.done = -1, 0

    def rewind(self, session: Session) -> None:
        """Drop the cells that a stopped decode left, so that the same rows can be computed again."""
        if not self._model.forget(session.key, session.done):
            self._model.forget(session.key)  # recurrent states cannot go back part of the way
            self.sharing.cells.resize(session.key, 0)
            session.done = 0
