"""Responses made without their client: they run on when it leaves, and whoever asks may follow."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio
import anyio.abc

from hali.api.openai_replies import Indexed
from hali.api.openai_response_writer import ResponseWriter
from hali.model.errors import EngineFailed, HaliError, Overloaded
from hali.runtime.log import get_logger

log = get_logger(__name__)


class Job:
    """The making of one response, and the record of its events."""

    def __init__(self, writer: ResponseWriter) -> None:
        self._writer = writer
        self._scope = anyio.CancelScope()
        self._record: list[bytes] = []  # the n-th has sequence number n
        self._news = anyio.Event()

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return sum(map(len, self._record))

    def begin(self) -> None:
        """It waits for its turn."""
        self._note(self._writer.begin())

    async def run(self, events: Indexed, settled: Callable[[], None]) -> None:
        """Make it; raises nothing of its own. `settled` is called once it has ended, however that came."""
        try:
            with self._scope:
                await self._make(events)
        except HaliError as error:
            log.info("api.background_failed", code=error.code, error=str(error))
            self._fail(error)
        except Exception as bug:  # one broken job must not end the others: told in its response, kept in the log
            log.error("api.background_broken", exc=bug)
            self._fail(EngineFailed("the request failed inside hali"))
        finally:
            self._fail(Overloaded("hali is stopping, or restarts what made this reply"))  # unless it ended before
            settled()

    def cancel(self) -> None:
        """End it now; nothing happens if it has ended."""
        if not self._writer.ended:
            self._note(self._writer.cancel())
            self._scope.cancel()

    async def follow(self, after: int = -1) -> AsyncGenerator[bytes, None]:
        """The events with a sequence number above `after`, those to come too, until the response ends."""
        position = after + 1
        while True:
            news = self._news
            while position < len(self._record):
                yield self._record[position]
                position += 1
            if self._writer.ended:
                return
            await news.wait()

    async def _make(self, events: Indexed) -> None:
        async with aclosing(events):
            async for _, event in events:
                if self._writer.ended:  # cancelled, and this event was on its way
                    return
                self._note(self._writer.proceed() + self._writer.take(event))

    def _fail(self, error: HaliError) -> None:
        if not self._writer.ended:
            self._note(self._writer.fail(error))

    def _note(self, events: bytes) -> None:
        self._record += [event + b"\n\n" for event in events.split(b"\n\n") if event]
        self._news.set()
        self._news = anyio.Event()


class Background:
    """Where jobs run: a task group that lives as long as the server."""

    def __init__(self) -> None:
        self._tasks: anyio.abc.TaskGroup | None = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run jobs until cancelled; then they end with an error."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    def start(self, job: Job, events: Indexed, settled: Callable[[], None]) -> None:
        """Begin `job`; `Overloaded` while the server does not run."""
        if self._tasks is None:
            raise Overloaded("hali is starting or stopping", details={"retry_after_s": 1})
        self._tasks.start_soon(job.run, events, settled)
