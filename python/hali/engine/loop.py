"""The worker's loop: admit, schedule, one llama_decode, sample, emit. Only `interrupt` may come from another thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from hali.engine import schedule as plan
from hali.engine.ahead import LookAhead
from hali.engine.answering import broken
from hali.engine.backend import ABORTED, NO_SLOT, Model
from hali.engine.chat import Prompter
from hali.engine.chunk import Chunk
from hali.engine.counters import Counters
from hali.engine.drafter import Drafter
from hali.engine.interrupts import Interrupts
from hali.engine.opening import Opening
from hali.engine.options import EngineStats
from hali.engine.retained import Retained
from hali.engine.room import Room
from hali.engine.sampling import Sampler
from hali.engine.session import Session
from hali.engine.speculate import Speculation
from hali.engine.vision import Picture, Projector
from hali.model.errors import EngineFailed, HaliError
from hali.model.generation import Done, GenerateRequest, GenerationEvent

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
        drafter: Drafter | None = None,
        projector: Projector | None = None,
    ) -> None:
        self._model, self._opening = model, Opening(model, prompter)
        self._retained, self._ahead = retained, LookAhead(speculation, drafter)
        self._room = Room(model, retained, n_seq_max, self._ahead.leave)
        self._interrupts = Interrupts(model.abort)
        self._projector = projector
        self._emit, self._fail = emit, fail
        self._chunk = Chunk(model.n_batch)
        self._read: list[Session] = []  # whose prompt was computed in the last step
        self._counters = Counters()
        self._replied = False  # the last of the turns, see _turn

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._room.running or self._room.waiting)

    @property
    def load(self) -> tuple[int, int]:
        """(sessions running, sessions waiting)."""
        return len(self._room.running), len(self._room.waiting)

    # --- requests

    def open(self, ident: bytes, request: GenerateRequest) -> None:
        """Queue a request; what is wrong with it goes to `fail`."""
        try:
            self._room.check()
            self._room.waiting.append(self._opening.session(ident, request))
        except HaliError as error:
            self._fail(ident, error)
        except Exception as bug:
            # Of a request that nothing was computed for: it costs that, and not the replies of others.
            self._fail(ident, broken(bug))

    def cancel(self, ident: bytes) -> None:
        """End a session that nobody waits for and give back all it holds. An unknown one has just ended."""
        self._interrupts.obeyed(ident)
        for session in self._room.everyone():
            if session.ident == ident:
                self._end(session, session.finish("cancelled"), keep=False)  # the slot is wanted back at once
                return

    def cancel_all(self) -> None:
        """Every client gets `Done("cancelled")`."""
        for session in self._room.everyone():
            self.cancel(session.ident)

    def interrupt(self, ident: bytes) -> None:
        """From another thread, before `cancel`: stop a decode that is for `ident` alone or has prompt rows of it.

        A single row among those of others is short, and stopping it would cost the others theirs.
        """
        self._interrupts.order(ident)

    # --- one batch

    def admit(self) -> None:
        """Let in as many waiting sessions as there is room for."""
        self._room.admit()
        if not all(session.decoding for session in self._room.running.values()):
            self.tell()  # the next batch may take a second

    def tell(self) -> None:
        """Send the texts that wait for the next ones: something may come between that takes longer than a token."""
        for session in self._room.running.values():
            self._send(session, session.bundle.take())

    def step(self) -> None:
        """Compute one batch for the sessions that were let in."""
        self._keep_prompts()
        ready = [session for session in self._room.running.values() if self._room.sharing.ready(session)]
        self._see(ready)
        ready = [session for session in ready if session.key >= 0 and session.picture is None]
        kv_free = self._room.kv_free
        tight = kv_free < len(ready)
        chosen = plan.schedule(
            [session.work(self._room.sharing.cells.own(session.key) if tight else None) for session in ready],
            n_batch=self._model.n_batch,
            kv_free=kv_free,
            beside=self._chunk.rows,
        )
        for key in chosen.preempt:
            self._put_back(self._room.running[key])
        if slices := self._turn(chosen.slices):
            rows = min(self._model.n_batch, self._room.kv_free) - len(slices)
            self._execute(self._look_ahead(slices, rows))

    def _look_ahead(self, slices: tuple[plan.Slice, ...], room: int) -> tuple[plan.Slice, ...]:
        """With what is guessed. Whoever leaves may stop a draft model's decode: that costs guesses only."""
        running = self._room.running
        if not self._interrupts.begin([running[part.key].ident for part in slices]):
            return self._ahead.plain(slices)
        try:
            return self._ahead.add(slices, running, room)
        finally:
            self._interrupts.end()

    def _turn(self, slices: tuple[plan.Slice, ...]) -> tuple[plan.Slice, ...]:
        """Replies and prompts by turns, where both in one batch would cost more than two batches."""
        replies = tuple(part for part in slices if self._room.running[part.key].decoding)
        prompts = tuple(part for part in slices if part not in replies)
        if not (replies and prompts and self._model.tiled):
            return slices
        self._replied = not self._replied
        return replies if self._replied else prompts

    def _see(self, ready: list[Session]) -> None:
        """Compute one image, if a session has come to one: others wait for it as they do for a long batch."""
        session = next((it for it in ready if it.picture is not None), None)
        if session is None or self._interrupts.ordered(session.ident):
            return
        picture = session.picture
        assert isinstance(picture, Picture) and self._projector is not None
        if picture.count > self._room.kv_free:
            self._no_slot()
            return
        session.begin()
        self._interrupts.begin(())  # libmtmd cannot be stopped half-way
        try:
            self._projector.decode(self._model.ctx, session.key, picture, self._model.n_batch)
        except EngineFailed as error:
            self._lose(session, error)
            return
        self._counters.prompt_tokens += picture.count
        session.done += picture.count
        self._room.sharing.cells.resize(session.key, session.done)

    def _keep_prompts(self) -> None:
        """Now, when their first tokens are on the way, and before their sessions end: others may come meanwhile."""
        for session in self._read:
            self._room.sharing.keep(session)
        self._read = []

    def _execute(self, slices: tuple[plan.Slice, ...]) -> None:
        alone = len(slices) == 1
        stoppable = (self._room.running[part.key].ident for part in slices if alone or part.count > 1)
        if not self._interrupts.begin(stoppable):
            return
        for part in slices:
            self._room.running[part.key].begin()
        began = time.perf_counter()
        try:
            rows = self._room.running
            code = self._model.decode(slices, lambda key: rows[key].tokens, lambda key: rows[key].done)
        except EngineFailed as error:
            for part in slices:
                self._lose(self._room.running[part.key], error)
            return
        finally:
            self._interrupts.end()
        self._counters.decodes += 1
        if code == ABORTED:
            for part in slices:
                self._room.rewind(self._room.running[part.key])
        elif code == NO_SLOT:
            self._no_slot()
        else:
            took = time.perf_counter() - began
            self._chunk.measure(sum(part.rows for part in slices), took)
            self._ahead.measure(slices, self._room.running, took)
            self._update(slices)

    def _update(self, slices: tuple[plan.Slice, ...]) -> None:
        """Account for computed rows; where a session's last token was among them, sample its next one."""
        for part in slices:
            session = self._room.running[part.key]
            if session.n_reply == 0:
                self._counters.prompt_tokens += part.count
            session.done += part.count
            self._room.sharing.cells.resize(part.key, session.done)
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
            self._room.sharing.cells.resize(key, session.done)
        self._ahead.learn(session, ahead, right, begin)
        if session.key == key and right < len(ahead):
            self._model.forget(key, session.done)

    def _draw(self, session: Session, row: int) -> bool:
        """Sample one token and tell; False when it was the last."""
        try:
            token = session.sampler.sample(self._model.ctx, row)
        except HaliError as error:  # no numbers, no token left, or a grammar that became too complex
            self._lose(session, error)
            return False
        self._counters.completion_tokens += 1
        piece = self._model.piece(token) or session.spelled(self._model.piece(token, special=True))
        events = session.accept(token, piece, self._model.is_end(token))
        if events and isinstance(events[-1], Done):
            self._end(session, events, keep=True)
            return False
        self._send(session, session.bundle.put(events))
        return True

    # --- ways out

    def _send(self, session: Session, events: list[GenerationEvent]) -> None:
        for event in events:
            if session.step == 0 and not isinstance(event, Done):
                event = msgspec.structs.replace(event, usage=session.usage())
            self._emit(session.ident, session.step, event)
            session.step += 1

    def _end(self, session: Session, events: list[GenerationEvent], *, keep: bool) -> None:
        """Give back first, then tell: who hears `Done` finds everything free."""
        if keep:
            self._room.sharing.keep(session)
        self._room.release(session)
        self._send(session, session.bundle.put(events))

    def _no_slot(self) -> None:
        """llama.cpp finds no room although our count says there is: put the youngest back, or fail the only one."""
        youngest = list(self._room.running.values())[-1]
        if len(self._room.running) > 1:
            self._put_back(youngest)
        else:
            self._lose(youngest, EngineFailed(f"no room in the KV cache of {self._model.n_kv} tokens", code="kv_full"))

    def _put_back(self, session: Session) -> None:
        self._send(session, session.bundle.take())
        self._room.put_back(session)

    def _lose(self, session: Session, error: HaliError) -> None:
        self._send(session, session.bundle.take())
        self._room.release(session)
        self._fail(session.ident, error)

    # --- counting

    def stats(self) -> EngineStats:
        """Counters as of now."""
        return self._counters.stats(
            self._model,
            self._room,
            self._retained,
            self._ahead,
            samplers=Sampler.alive,
        )
