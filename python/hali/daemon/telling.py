"""Telling those who watch a job how it goes."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import anyio
import msgspec

from hali.daemon.ipc import Emit
from hali.runtime.channels import Lagged
from hali.runtime.groups import first_error
from hali.share.job import Job, Progress
from hali.share.library import Entry

T = TypeVar("T")
PROGRESS_S = 0.1  # between two events of one state: faster than anyone reads, slow enough to cost nothing


async def watch(job: Job, emit: Emit) -> Mapping[str, Any]:
    """Tell the job's progress until it ends, each state at least once; its result, or its error raised."""
    teller = _Teller(emit)
    async with anyio.create_task_group() as group:
        group.start_soon(teller.follow, job)
        await job.ended()
        group.cancel_scope.cancel()
    await teller.tell(job.progress)
    return job.outcome()


async def telling_hashing(entry: Entry, emit: Emit, work: Awaitable[T]) -> T:
    """What `work`, the verification of a model, gives; its progress is told meanwhile, in the shape of a job's."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_tell_hashing, entry, _Teller(emit))
            outcome = await work
            group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    return outcome


async def _tell_hashing(entry: Entry, teller: _Teller) -> None:
    size, name = entry.record.meta.size, entry.record.path.name
    while True:
        await anyio.sleep(PROGRESS_S)
        if entry.progress is not None:
            await teller.tell(Progress("hashing", name, round(entry.progress * size), size))


class _Teller:
    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._told: Progress | None = None
        self._at = -PROGRESS_S

    async def follow(self, job: Job) -> None:
        """Tell what the job publishes, until cancelled or nobody listens."""
        with job.updates.subscribe(replay=True) as updates:
            async for update in updates:
                if not isinstance(update, Lagged):
                    await self.tell(update)

    async def tell(self, update: Progress) -> None:
        """A new state at once; within a state only now and then, and never the same twice."""
        now = anyio.current_time()
        new_state = self._told is None or update.state != self._told.state
        if update == self._told or not (new_state or now - self._at >= PROGRESS_S):
            return
        self._told, self._at = update, now
        try:
            await self._emit(msgspec.to_builtins(update))
        except (ConnectionError, TimeoutError):
            return  # who asked has gone; the job goes on
