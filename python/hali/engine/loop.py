"""The worker's loop: admit, schedule, one llama_decode, sample, emit. Only `interrupt` may come from another thread."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable

from hali.engine import schedule as plan
from hali.engine.ahead import LookAhead
from hali.engine.backend import ABORTED, NO_SLOT, Model
from hali.engine.chat import Prompter
from hali.engine.opening import Opening
from hali.engine.options import EngineStats
from hali.engine.retained import Retained
from hali.engine.sampling import Sampler
from hali.engine.session import Session
from hali.engine.sharing import Sharing
from hali.engine.speculate import Speculation
from hali.engine.vision import Picture, Projector
from hali.model.errors import EngineFailed, HaliError, Overloaded
from hali.model.generation import Done, GenerateRequest, GenerationEvent

MAX_QUEUED = 256  # requests waiting in the worker; the router's own queue in front of it is shorter

Emit = Callable[[bytes, int, GenerationEvent], None]
Fail = Callable[[bytes, HaliError], None]


class Loop:
    """Sessions of one model. `admit`, then `step` computes one batch; `emit` and `fail` receive what comes of it."""

    def __init__(
        self,
        model: Model,
        prompter: Prompter,
        n_seq_max: int,
        emit: Emit,
        fail: Fail,
        *,
        retained: Retained | None = None,  # None: nothing is kept for later requests
        speculation: Speculation = "off",
        projector: Projector | None = None,
    ) -> None:
        self._model, self._opening = model, Opening(model, prompter)
        self._retained, self._sharing, self._ahead = retained, Sharing(retained), LookAhead(speculation)
        self._projector = projector
        self._emit, self._fail = emit, fail
        self._n_seq_max = n_seq_max
        self._free = list(range(n_seq_max - 1, -1, -1))  # sequence ids, the lowest on top
        self._running: dict[int, Session] = {}  # by key, oldest first
        self._waiting: deque[Session] = deque()
        self._turn = itertools.count()
        self._stoppable: frozenset[bytes] = frozenset()  # sessions for which the decode under way may be stopped
        self._doomed: set[bytes] = set()  # cancelled by another thread, not yet by `cancel`
        self._read: list[Session] = []  # whose prompt was computed in the last step
        self._prompt_tokens = self._completion_tokens = self._decodes = self._preempted = 0

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._running or self._waiting)

    @property
    def load(self) -> tuple[int, int]:
        """(sessions running, sessions waiting)."""
        return len(self._running), len(self._waiting)

    # --- requests

    def open(self, ident: bytes, request: GenerateRequest) -> None:
        """Queue a request; what is wrong with it goes to `fail`."""
        try:
            if len(self._waiting) >= MAX_QUEUED:
                raise Overloaded(f"{MAX_QUEUED} requests already wait for this model", details={"retry_after_s": 5})
            self._waiting.append(self._opening.session(ident, request))
        except HaliError as error:
            self._fail(ident, error)

    def cancel(self, ident: bytes) -> None:
        """End a session that nobody waits for and give back all it holds. An unknown one has just ended."""
        self._doomed.discard(ident)
        for session in [*self._running.values(), *self._waiting]:
            if session.ident == ident:
                self._end(session, session.finish("cancelled"), keep=False)  # the slot is wanted back at once
                return

    def cancel_all(self) -> None:
        """Every client gets `Done("cancelled")`."""
        for session in [*self._running.values(), *self._waiting]:
            self.cancel(session.ident)

    def interrupt(self, ident: bytes) -> None:
        """From another thread, before `cancel`: stop a decode that is for `ident` alone or has prompt rows of it.

        A single row among those of others is short, and stopping it would cost the others theirs.
        """
        self._doomed.add(ident)
        if ident in self._stoppable:
            self._model.abort[0] = b"\1"

    # --- one batch

    def step(self) -> None:
        """Compute one batch for the sessions that were let in."""
        self._keep_prompts()
        ready = [session for session in self._running.values() if self._sharing.ready(session)]
        self._see(ready)
        ready = [session for session in ready if session.key >= 0 and session.picture is None]
        kv_free = self._model.n_kv - self._sharing.cells.used
        tight = kv_free < len(ready)
        chosen = plan.schedule(
            [session.work(self._sharing.cells.own(session.key) if tight else None) for session in ready],
            n_batch=self._model.n_batch,
            kv_free=kv_free,
            turn=next(self._turn),
        )
        for key in chosen.preempt:
            self._put_back(self._running[key])
        if chosen.slices:
            room = min(self._model.n_batch, self._model.n_kv - self._sharing.cells.used) - len(chosen.slices)
            self._execute(self._ahead.add(chosen.slices, self._running, room))

    def _see(self, ready: list[Session]) -> None:
        """Compute one image, if a session has come to one: others wait for it as they do for a long batch."""
        session = next((it for it in ready if it.picture is not None), None)
        if session is None or session.ident in self._doomed:
            return
        picture = session.picture
        assert isinstance(picture, Picture) and self._projector is not None
        if picture.count > self._model.n_kv - self._sharing.cells.used:
            self._no_slot()
            return
        session.begin()
        self._model.abort[0] = b"\0"
        try:
            self._projector.decode(self._model.ctx, session.key, picture, self._model.n_batch)
        except EngineFailed as error:
            self._release(session)
            self._fail(session.ident, error)
            return
        self._prompt_tokens += picture.count
        session.done += picture.count
        self._sharing.cells.resize(session.key, session.done)

    def _keep_prompts(self) -> None:
        """Now, when their first tokens are on the way, and before their sessions end: others may come meanwhile."""
        for session in self._read:
            self._sharing.keep(session)
        self._read = []

    def admit(self) -> None:
        """Let in as many waiting sessions as there are sequence ids and KV cells for."""
        while self._waiting and plan.may_enter(
            len(self._waiting[0].tokens),
            running=len(self._running),
            committed=self._committed(),
            n_kv=self._model.n_kv,
            slots_free=len(self._free),
        ):
            if not self._running:
                self._model.clear()
            session = self._waiting.popleft()
            session.key = self._free.pop()
            self._sharing.enter(session, self._running.values())
            self._running[session.key] = session

    def _committed(self) -> int:
        """Cells taken, and those that the tokens known by now will take."""
        pending = sum(len(session.tokens) - session.done for session in self._running.values())
        return self._sharing.cells.used + pending

    def _execute(self, slices: tuple[plan.Slice, ...]) -> None:
        self._model.abort[0] = b"\0"
        alone = len(slices) == 1
        self._stoppable = frozenset(self._running[part.key].ident for part in slices if alone or part.count > 1)
        if not self._doomed.isdisjoint(self._stoppable):
            return  # the order to cancel lies in the inbox already
        for part in slices:
            self._running[part.key].begin()
        began = time.perf_counter()
        try:
            rows = self._running
            code = self._model.decode(slices, lambda key: rows[key].tokens, lambda key: rows[key].done)
        except EngineFailed as error:
            self._give_up(slices, error)
            return
        finally:
            self._stoppable = frozenset()
        self._decodes += 1
        if code == ABORTED:
            self._rewind(slices)
        elif code == NO_SLOT:
            self._no_slot()
        else:
            self._ahead.measure(slices, self._running, time.perf_counter() - began)
            self._update(slices)

    def _update(self, slices: tuple[plan.Slice, ...]) -> None:
        """Account for computed rows; where a session's last token was among them, sample its next one."""
        for part in slices:
            session = self._running[part.key]
            if session.n_reply == 0:
                self._prompt_tokens += part.count
            session.done += part.count
            self._sharing.cells.resize(part.key, session.done)
            if session.done == len(session.tokens):
                self._sample(session, part.ahead)

    def _sample(self, session: Session, ahead: tuple[int, ...]) -> None:
        """Draw from the row of the last pending token, and from each row ahead whose token was the one drawn."""
        if session.n_reply == 0:
            self._read.append(session)
        key, row, begin = session.key, self._model.batch.row_of_last[session.key], len(session.tokens)
        right = 0
        while self._draw(session, row + right) and right < len(ahead) and session.tokens[-1] == ahead[right]:
            right += 1
            session.done += 1
        if right and session.key == key:
            self._sharing.cells.resize(key, session.done)
        self._ahead.learn(session, ahead, right, begin)
        if session.key == key and right < len(ahead):
            self._model.forget(key, session.done)

    def _draw(self, session: Session, row: int) -> bool:
        """Sample one token and tell; False when it was the last."""
        try:
            token = session.sampler.sample(self._model.ctx, row)
        except HaliError as error:  # no numbers, no token left, or a grammar that became too complex
            self._release(session)
            self._fail(session.ident, error)
            return False
        self._completion_tokens += 1
        piece = self._model.piece(token) or session.spelled(self._model.piece(token, special=True))
        events = session.accept(token, piece, self._model.is_end(token))
        if events and isinstance(events[-1], Done):
            self._end(session, events, keep=True)
            return False
        self._send(session, events)
        return True

    # --- ways out

    def _send(self, session: Session, events: list[GenerationEvent]) -> None:
        for event in events:
            self._emit(session.ident, session.step, event)
            session.step += 1

    def _end(self, session: Session, events: list[GenerationEvent], *, keep: bool) -> None:
        """Give back first, then tell: who hears `Done` finds everything free."""
        if keep:
            self._sharing.keep(session)
        self._release(session)
        self._send(session, events)

    def _release(self, session: Session) -> None:
        session.close()
        if session.key < 0:
            self._waiting.remove(session)
        else:
            self._vacate(session)

    def _vacate(self, session: Session) -> None:
        self._model.forget(session.key)
        self._sharing.leave(session)
        del self._running[session.key]
        self._free.append(session.key)
        session.key, session.done = -1, 0

    def _put_back(self, session: Session) -> None:
        """The KV cache is full: this session, the youngest, waits and computes its text again later."""
        self._preempted += 1
        self._sharing.keep(session)
        self._vacate(session)
        self._waiting.appendleft(session)

    def _no_slot(self) -> None:
        """llama.cpp finds no room although our count says there is: put the youngest back, or fail the only one."""
        youngest = list(self._running.values())[-1]
        if len(self._running) > 1:
            self._put_back(youngest)
            return
        self._release(youngest)
        error = EngineFailed(f"no room in the KV cache of {self._model.n_kv} tokens", code="kv_full")
        self._fail(youngest.ident, error)

    def _rewind(self, slices: tuple[plan.Slice, ...]) -> None:
        """A decode was stopped half-way: drop the cells it left, so that the same rows can be computed again."""
        for part in slices:
            session = self._running[part.key]
            if not self._model.forget(part.key, session.done):
                self._model.forget(part.key)  # recurrent states cannot go back part of the way
                self._sharing.cells.resize(part.key, 0)
                session.done = 0

    def _give_up(self, slices: tuple[plan.Slice, ...], error: EngineFailed) -> None:
        for part in slices:
            session = self._running[part.key]
            self._release(session)
            self._fail(session.ident, error)

    # --- counting

    def stats(self) -> EngineStats:
        """Counters as of now."""
        kept = self._retained
        return EngineStats(
            sessions=len(self._running),
            queued=len(self._waiting),
            kv_used=sum(self._model.cells(key) for key in range(self._n_seq_max)),
            kv_total=self._model.n_kv,
            sequences_free=len(self._free),
            samplers=Sampler.alive,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            decodes=self._decodes,
            preempted=self._preempted,
            cached_tokens=kept.tree.tokens if kept else 0,
            cached_bytes=kept.tree.held if kept else 0,
            cache_hits=kept.hits if kept else 0,
            cache_hit_tokens=kept.hit_tokens if kept else 0,
            cache_evicted=kept.tree.evicted if kept else 0,
            drafted=self._ahead.drafted,
            accepted=self._ahead.accepted,
        )
