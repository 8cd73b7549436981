"""The jobs of this node: asked for once, watched by many, remembered across restarts until they are done."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from hali.model.errors import Cancelled, HaliError, NotFound, UsageError
from hali.runtime.channels import Sender
from hali.runtime.log import get_logger
from hali.share.job import Job, JobSpec
from hali.share.queue import Priority, WaitingRoom
from hali.store.database import Database

log = get_logger(__name__)

# Told of each job that is over, in the transaction (and the thread) that forgets it.
AtEnd = Callable[[Job, sqlite3.Connection], None]
KEPT = 100  # ended jobs that can still be asked about


class JobBoard:
    """IPC and API submit here; the AcquisitionManager reads the other end of `queue`."""

    def __init__(self, database: Database, queue: Sender[Job], room: WaitingRoom, at_end: AtEnd | None = None) -> None:
        self._database = database
        self._queue = queue
        self._room = room  # where pulls wait for their turn
        self._at_end = at_end
        self.ended: Counter[tuple[str, str]] = Counter()  # by kind and outcome, since the daemon began
        self._jobs: dict[str, Job] = {}
        self._numbers = itertools.count()
        self._paused = False

    async def submit(self, spec: JobSpec, priority: Priority | None = None) -> Job:
        """The job doing `spec`: the one under way, or a new one, which fails with Overloaded when too many wait.

        A `priority` that is given holds for the one under way too.
        """
        while (known := self._jobs.get(spec.id)) is not None and not known.is_over:
            if not known.scope.cancel_called:
                if priority is not None:
                    await self.prioritise(known, priority)
                return known
            await known.ended()  # asked for again right after Ctrl-C: a new job goes on where that one stops
        self._jobs.pop(spec.id, None)  # so that it stands behind those that ended since
        job = self._jobs[spec.id] = self._new(spec, priority or "normal")
        self._forget_old()
        # In a thread: an acknowledged write waits for the disk. Before the work begins: a job that ends at once forgets its row.
        text = msgspec.json.encode(spec).decode()
        try:
            await anyio.to_thread.run_sync(self._database.add_job, spec.id, spec.kind, text, job.priority)
        except BaseException as exc:  # nobody works on it: who asks again must not wait for it
            job.fail(exc if isinstance(exc, HaliError) else Cancelled(f"{spec.what}: cancelled"))
            raise
        try:
            self._queue.offer(job)
        except HaliError as exc:
            job.fail(exc)
            await self.forget(job)
        return job

    def _new(self, spec: JobSpec, priority: Priority) -> Job:
        return Job(spec, priority=priority, number=next(self._numbers), paused=self._paused)

    async def prioritise(self, job: Job, priority: Priority) -> None:
        """Let a waiting job be sooner or later at its turn; one under way has had it. Kept across restarts."""
        job.priority = priority
        self._room.move(job.spec.id, priority)
        await anyio.to_thread.run_sync(self._database.set_job_priority, job.spec.id, priority)

    def pause(self, paused: bool) -> None:
        """All pulls, those to come included, say that they are paused, or no longer."""
        self._paused = paused
        for job in self.active():
            job.pause(paused)

    async def unfinished(self) -> list[Job]:
        """Jobs that an earlier run of the daemon, or of the manager, left behind."""
        found = []
        for spec, priority in await anyio.to_thread.run_sync(self._left_behind):
            job = self._jobs.get(spec.id)
            if job is None or job.is_over:
                job = self._jobs[spec.id] = self._new(spec, priority)
            cancelled = job.scope.cancel_called
            job.scope = anyio.CancelScope()  # the manager that entered the old one is gone
            if cancelled:  # and had no time to carry that out
                job.scope.cancel()
            found.append(job)
        return found

    def _left_behind(self) -> list[tuple[JobSpec, Priority]]:
        found = []
        for job_id, text, priority in self._database.jobs():
            try:
                spec = msgspec.json.decode(text, type=JobSpec)
            except msgspec.MsgspecError as exc:
                # Damaged, or saved of what was: it must not keep the others from going on.
                log.warning("job.unreadable", job=job_id, error=str(exc))
                self._database.remove_job(job_id)
                continue
            if spec.id != job_id:  # of a hali that made ids in another way: it could never be forgotten
                self._database.add_job(spec.id, spec.kind, text, priority)  # first: a crash between must not lose it
                self._database.remove_job(job_id)
            found.append((spec, msgspec.convert(priority, Priority)))
        return found

    async def forget(self, job: Job) -> None:
        """Done or given up: the next start does not go on with it."""
        self.ended[job.spec.kind, job.verdict] += 1
        also = None if self._at_end is None else partial(self._at_end, job)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._database.remove_job, job.spec.id, also)

    def get(self, job_id: str) -> Job:
        """The job of that id; NotFound."""
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NotFound(f"no job {job_id!r}") from None

    def active(self) -> list[Job]:
        """Jobs under way or waiting."""
        return [job for job in self._jobs.values() if not job.is_over]

    def find(self, text: str) -> Job:
        """The job under way or waiting with this id, the beginning of one, or what was asked for; NotFound, UsageError for several."""
        active = self.active()
        exact = [job for job in active if text in (job.spec.id, job.spec.what)]
        found = exact or [job for job in active if text and job.spec.id.startswith(text)]
        if len(found) > 1:
            raise UsageError(
                f"{text!r} fits {len(found)} jobs", details={"choices": [f"{j.spec.id} {j.spec.what}" for j in found]}
            )
        if not found:
            raise NotFound(f"no job {text!r} is under way or waiting", hint="`hali queue` lists them")
        return found[0]

    def position(self, job: Job) -> int | None:
        """Of a job that waits for a place, in the order in which they will be called, from 1."""
        order = self._room.order()
        return order.index(job.spec.id) + 1 if job.spec.id in order else None

    def in_order(self) -> list[tuple[Job, int | None]]:
        """Jobs under way in the order of arrival, then those that wait for a place, each with its position."""
        rows = [(job, self.position(job)) for job in self.active()]
        return sorted(rows, key=lambda row: (row[1] or 0, row[0].number))

    def _forget_old(self) -> None:
        ended = [job_id for job_id, job in self._jobs.items() if job.is_over]
        for job_id in ended[:-KEPT]:
            del self._jobs[job_id]
