"""InferenceRouter: queue, plan, run, retry before the first token, cancel; every path gives back what it took."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Self

import anyio
import anyio.abc
import msgspec

from hali.model.errors import EngineCrashed, EngineFailed, HaliError, Overloaded
from hali.model.generation import Answer, Done, Embed, GenerateRequest, GenerationEvent, Query, Rerank
from hali.pipeline.admission import Admission
from hali.pipeline.base import Catalog, Engines, ServedModel
from hali.pipeline.plan import Stage, plan_local
from hali.runtime.channels import Receiver, Sender, mailbox
from hali.runtime.log import get_logger

log = get_logger(__name__)

ATTEMPTS = 2  # a second engine may get what killed the first by bad luck; a request that kills two is itself the cause
EVENTS_AHEAD = 64  # events a slow reader may lag before its own generation waits for it: about a second of a fast model
RETRY_AFTER_S = 10  # told to clients of an engine that fell silent: about one reply, as when all engines are busy
CLOSE_S = 1.0  # for the engine to take note of a cancellation; its own promise is 100 ms


class RouterLimits(msgspec.Struct, frozen=True):
    """Bounds of the router; times in seconds."""

    running: int = 8  # requests of one model at once: the engine's slots, more would only queue again inside it
    queued: int = 128  # … waiting for one model: 16 rounds, beyond that the answer would come too late to be wanted
    queued_per_key: int = 64  # … of one key: nobody fills the queue alone
    queue_wait_s: float = 300.0  # below the 600 s after which the OpenAI clients give up
    first_event_s: float = 1800.0  # loading a large model from a slow disk, then a long prompt on a slow CPU
    next_event_s: float = 600.0  # between events: other requests' prompts share the batches; a wedged engine ends here


class RouterStats(msgspec.Struct, frozen=True):
    """Counts since the router started, and what is in hand now."""

    accepting: bool
    running: int
    queued: int
    finished: int
    failed: int
    cancelled: int
    retried: int


class _Counts:
    """What the router has seen so far."""

    def __init__(self) -> None:
        self.finished = self.failed = self.cancelled = self.retried = 0


class _Session:
    """One generation: what was asked, the mailbox its events go to, the scope that ends it."""

    def __init__(self, model: ServedModel, request: GenerateRequest, key: str, weight: float, deadline: float) -> None:
        self.model, self.request, self.key, self.weight, self.deadline = model, request, key, weight, deadline
        self.scope = anyio.CancelScope()
        self.started = False  # an event went to the client: no retry any more
        self.done = False
        self.error: HaliError | None = None
        self.sender: Sender[GenerationEvent]
        self.events: Receiver[GenerationEvent]
        self.sender, self.events = mailbox("generation", EVENTS_AHEAD)


class InferenceRouter:
    """The service between whoever asks (HTTP, IPC) and the engines.

    Generations run as its own tasks and end with it.
    """

    def __init__(self, catalog: Catalog, engines: Engines, limits: RouterLimits | None = None) -> None:
        self.limits = limits or RouterLimits()
        self._catalog = catalog
        self._engines = engines
        self._admission = Admission(
            permits=self.limits.running, queued=self.limits.queued, queued_per_key=self.limits.queued_per_key
        )
        self._tasks: anyio.abc.TaskGroup | None = None
        self._counts = _Counts()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Accept requests until cancelled; then those that wait and those that run end with an error."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    def stats(self) -> RouterStats:
        """What the router does now and has done."""
        counts = self._counts
        return RouterStats(
            accepting=self._tasks is not None,
            running=self._admission.running,
            queued=self._admission.queued,
            finished=counts.finished,
            failed=counts.failed,
            cancelled=counts.cancelled,
            retried=counts.retried,
        )

    async def generate(
        self,
        model: str | ServedModel,
        request: GenerateRequest,
        *,
        key: str | None = None,
        deadline: float | None = None,
        weight: float = 1.0,
    ) -> AsyncGenerator[GenerationEvent, None]:
        """Chunks, then `Done`; or a `HaliError`, after which no event comes. Close the generator to cancel
        (contextlib.aclosing).

        `key` is the owner whose share of the queue this takes, `deadline` the loop time (anyio.current_time) by which
        all must be said.
        """
        served = self._catalog.find(model) if isinstance(model, str) else model
        if self._tasks is None:
            raise Overloaded("the inference router is not running", details={"retry_after_s": 1})
        session = _Session(served, request, key or "", weight, float("inf") if deadline is None else deadline)
        self._tasks.start_soon(self._serve, session)
        try:
            async for event in session.events:
                yield event
        finally:  # also when the reader went away: no await here, so that nothing can get in the way
            session.scope.cancel()
            session.events.close()
        if not session.done:
            raise session.error or Overloaded(
                "hali is stopping, or restarts what made this reply", details={"retry_after_s": 1}
            )

    async def ask(
        self,
        model: str | ServedModel,
        query: Query,
        *,
        key: str | None = None,
        deadline: float | None = None,
        weight: float = 1.0,
    ) -> Answer:
        """The answer to a query, by `deadline` (loop time). One that computes (`Embed`, `Rerank`) takes its turn like a generation."""
        served = self._catalog.find(model) if isinstance(model, str) else model
        latest = float("inf") if deadline is None else deadline
        if not isinstance(query, Embed | Rerank):
            return await self._answer(served, query, latest)
        turn_by = min(latest, anyio.current_time() + self.limits.queue_wait_s)
        async with self._admission.permit(served.sha256, key=key or "", weight=weight, deadline=turn_by):
            return await self._answer(served, query, latest)

    async def _answer(self, served: ServedModel, query: Query, deadline: float) -> Answer:
        with _Limit(anyio.current_time() + self.limits.first_event_s, deadline):
            answer = await self._engines.ask(served.engine_name, served.path, query)
        return answer

    async def _serve(self, session: _Session) -> None:
        """Run one session to its end and count how it ended; raises nothing but cancellation of the whole router."""
        counts = self._counts
        try:
            with session.scope:
                await self._admitted(session)
        except HaliError as error:
            session.error = error
            log.info("router.failed", model=session.model.id, code=error.code, error=str(error))
        except Exception as bug:  # one broken request must not end the router: told to its client, kept in the log
            session.error = EngineFailed("the request failed inside hali")
            log.error("router.broken", exc=bug, model=session.model.id)
        finally:
            session.sender.close()
            counts.finished += session.done
            counts.failed += session.error is not None
            counts.cancelled += not session.done and session.error is None

    async def _admitted(self, session: _Session) -> None:
        turn_by = min(session.deadline, anyio.current_time() + self.limits.queue_wait_s)
        lane = session.model.sha256
        async with self._admission.permit(lane, key=session.key, weight=session.weight, deadline=turn_by):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return await self._attempt(session, plan_local(session.model).stages[0])
                except EngineCrashed as crash:
                    if session.started or attempt == ATTEMPTS:
                        raise
                    self._counts.retried += 1
                    log.warning("router.retry", model=session.model.id, error=str(crash))

    async def _attempt(self, session: _Session, stage: Stage) -> None:
        """Pass one engine's events on; returns after `Done`."""
        give_up = anyio.current_time() + self.limits.first_event_s
        events = self._engines.generate(session.model.engine_name, stage.path, session.request)
        try:
            with _Limit(give_up, session.deadline) as limit:
                while not session.done:
                    event = await anext(events, None)
                    if event is None:
                        raise EngineFailed("the engine ended its reply without a last word")
                    if session.sender.full:  # then it is the reader that everybody waits for
                        limit.move(float("inf"))
                    await self._pass_on(session, event)
                    limit.move(anyio.current_time() + self.limits.next_event_s)
        finally:
            await _close(events)

    async def _pass_on(self, session: _Session, event: GenerationEvent) -> None:
        session.started = True
        session.done = isinstance(event, Done)  # before it is sent: the reader may end the session at once
        try:
            await session.sender.send(event)
        except anyio.BrokenResourceError:  # the reader left in this very moment; its cancellation is on the way
            await anyio.sleep_forever()


class _Limit:
    """`with _Limit(when, deadline)`: past the loop time `when`, or what the request set, the block ends in `EngineFailed`."""

    def __init__(self, when: float, deadline: float = float("inf")) -> None:
        self._deadline = deadline
        self._scope = anyio.CancelScope(deadline=min(when, deadline))

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def move(self, when: float) -> None:
        """Let it be that moment; a little later is not worth a new timer, which for each token is dear."""
        when = min(when, self._deadline)
        now, then = anyio.current_time(), self._scope.deadline
        if not then <= when <= then + (then - now) / 16:
            self._scope.deadline = when

    def __exit__(self, *exc_info: object) -> bool:
        swallowed = self._scope.__exit__(*exc_info)  # type: ignore[arg-type]
        if self._scope.cancelled_caught:
            raise self._too_late()
        return bool(swallowed)

    def _too_late(self) -> EngineFailed:
        if self._scope.deadline >= self._deadline:  # to wait would not help whoever asks for the same again
            what = "the reply was not there by the deadline that the request set"
            return EngineFailed(what, code="engine_timeout", retryable=True)
        what, details = "the engine did not answer in time", {"retry_after_s": RETRY_AFTER_S}
        return EngineFailed(what, code="engine_timeout", retryable=True, details=details)


async def _close(events: AsyncIterator[GenerationEvent]) -> None:
    """Let the engine's iterator say goodbye even if we are being cancelled.

    A generator that already ended does nothing.
    """
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        with anyio.CancelScope(deadline=anyio.current_time() + CLOSE_S, shield=True):
            await aclose()
