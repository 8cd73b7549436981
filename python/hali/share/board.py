"""The jobs of this node: asked for once, watched by many, remembered across restarts until they are done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from hali.model.errors import HaliError, NotFound
from hali.runtime.channels import Sender
from hali.share.job import Job, JobSpec
from hali.store.database import Database

# Told of each job that is over, in the transaction (and the thread) that forgets it.
AtEnd = Callable[[Job, sqlite3.Connection], None]
KEPT = 100  # ended jobs that can still be asked about


class JobBoard:
    """IPC and API submit here; the AcquisitionManager reads the other end of `queue`."""

    def __init__(self, database: Database, queue: Sender[Job], at_end: AtEnd | None = None) -> None:
        self._database = database
        self._queue = queue
        self._at_end = at_end
        self._jobs: dict[str, Job] = {}

    async def submit(self, spec: JobSpec) -> Job:
        """The job doing `spec`: the one under way, or a new one, which fails with Overloaded when too many wait."""
        known = self._jobs.get(spec.id)
        if known is not None and known.scope.cancel_called:
            await known.ended()  # asked for again right after Ctrl-C: a new job goes on where that one stops
        elif known is not None and not known.is_over:
            return known
        job = self._jobs[spec.id] = Job(spec)
        self._forget_old()
        # In a thread: an acknowledged write waits for the disk. Before the work begins: a job that ends at once forgets its row.
        await anyio.to_thread.run_sync(self._database.add_job, spec.id, spec.kind, msgspec.json.encode(spec).decode())
        try:
            self._queue.offer(job)
        except HaliError as exc:
            await self.forget(job)
            job.fail(exc)
        return job

    def unfinished(self) -> list[Job]:
        """Jobs that an earlier run of the daemon, or of the manager, left behind."""
        found = []
        for job_id, _, text in self._database.jobs():
            job = self._jobs.get(job_id)
            if job is None or job.is_over:
                job = self._jobs[job_id] = Job(msgspec.json.decode(text, type=JobSpec))
            job.scope = anyio.CancelScope()  # the manager that entered the old one is gone
            found.append(job)
        return found

    async def forget(self, job: Job) -> None:
        """Done or given up: the next start does not go on with it."""
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

    def _forget_old(self) -> None:
        ended = [job_id for job_id, job in self._jobs.items() if job.is_over]
        for job_id in ended[:-KEPT]:
            del self._jobs[job_id]
