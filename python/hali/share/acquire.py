"""AcquisitionManager: verified downloads and imports, from what was asked to seeding."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.to_thread
import msgspec

from hali.model.errors import (
    Cancelled,
    Failed,
    HaliError,
    UsageError,
)
from hali.model.layers import Layers, parse_layers
from hali.model.splits import in_order
from hali.runtime.activity import Activity
from hali.runtime.channels import Receiver, Watch
from hali.runtime.log import get_logger
from hali.share.board import JobBoard
from hali.share.importing import bring_in, examine, sources_of
from hali.share.incoming import JOURNALS, io_error
from hali.share.incoming_model import Arrived, IncomingModel, Wanted
from hali.share.intake import Admit, Disagreement
from hali.share.job import Job, Progress
from hali.share.job_telling import JobTeller
from hali.share.library import Entry, Library, Origin
from hali.share.part import Part
from hali.share.partials import Partials, promised_sha256
from hali.share.pulling import Puller
from hali.share.queue import WaitingRoom
from hali.share.resolve import Plan, Resolver
from hali.share.space import Space
from hali.share.targets import of_quant, parse_target
from hali.transfer.events import PeerBanned, SeedDamaged
from hali.transfer.gate import Gate
from hali.transfer.session import TorrentSession
from hali.wire.manifest import identity

log = get_logger(__name__)

PARALLEL_IMPORTS = 4  # hashing uses all cores; apart from the pulls, which may wait for hours


class AcquisitionManager:
    """The service. `queue` brings new jobs; unfinished ones of an earlier life come from the board."""

    def __init__(
        self,
        *,
        board: JobBoard,
        queue: Receiver[Job],
        library: Library,
        resolver: Resolver,
        torrents: Watch[TorrentSession | None],
        puller: Puller,
        room: WaitingRoom,
        gate: Gate,
        partials: Partials,
        space: Space,
        activity: Activity,
    ) -> None:
        self._told = JobTeller(activity)
        self._activity = activity
        self._board, self._queue, self._library, self._resolver = board, queue, library, resolver
        self._torrents, self._puller, self._partials = torrents, puller, partials
        self._running: dict[str, anyio.Event] = {}  # set when the job of that id is over
        # Never emptied: some hundred bytes a file, and a daemon fetches thousands at most.
        self._locks: dict[str, anyio.Lock] = {}
        self._room, self._gate, self._space = room, gate, space
        self._imports = anyio.Semaphore(PARALLEL_IMPORTS)
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled; unfinished jobs stay on the board."""
        async with anyio.create_task_group() as self._group:
            group = self._group
            group.start_soon(self._follow_session)
            for job in await self._board.unfinished():
                group.start_soon(self._work, job)
            task_status.started()
            async for job in self._queue:
                group.start_soon(self._work, job)

    async def _follow_session(self) -> None:
        """A restarted torrent session starts empty: seed everything again in it."""
        session = await self._torrents.until(lambda s: s is not None)
        while True:
            async with anyio.create_task_group() as group:
                if session is not None:
                    group.start_soon(self._library.seed_all, session)
                    group.start_soon(self._partials.seed_all, session)
                    group.start_soon(self._watch_session, session)
                session = await self._other_than(session)
                group.cancel_scope.cancel()

    async def _watch_session(self, session: TorrentSession) -> None:
        """A file that libtorrent found changed is no longer ours to serve; a peer that was barred is told of."""
        with session.events.subscribe() as events:
            async for event in events:
                if isinstance(event, PeerBanned):
                    self._activity.tell(
                        "peer.banned", f"{event.address} sent bad data and is barred", peer=event.address
                    )
                elif isinstance(event, SeedDamaged):
                    await self._library.damaged(event.infohashes, event.reason)
                    await self._partials.damaged(event.infohashes, event.reason)

    async def _other_than(self, session: TorrentSession | None) -> TorrentSession | None:
        """The session that follows `session`; None while there is none."""
        return await self._torrents.until(lambda now: now is not session)

    async def _work(self, job: Job) -> None:
        while (earlier := self._running.get(job.spec.id)) is not None:
            await earlier.wait()
        if job.is_over:
            return
        over = self._running[job.spec.id] = anyio.Event()
        self._told.began(job)
        try:
            with job.scope:
                job.finish(await self._do(job))
            if job.scope.cancelled_caught:
                job.fail(
                    Cancelled(
                        f"{job.spec.what}: cancelled; what was verified is kept",
                        hint="the same command goes on where it stopped",
                    )
                )
            self._told.ended(job)
            await self._forget(job)
            await self._library.seed_twins()
        except HaliError as exc:
            await self._fail(job, exc)
        except OSError as exc:
            await self._fail(job, io_error(exc, exc.filename or job.spec.what))
        except Exception as exc:  # a bug must cost its job only, and must not come back with it at every start
            log.error("job.bug", job=job.spec.what, exc=exc)
            await self._fail(job, Failed(f"internal error: {type(exc).__name__}: {exc}", code="internal"))
        finally:
            del self._running[job.spec.id]
            over.set()

    async def _fail(self, job: Job, error: HaliError) -> None:
        log.warning("job.failed", job=job.spec.what, error=str(error), code=error.code)
        job.fail(error)  # first: who waits must hear of it, whatever the database says
        self._told.ended(job)
        await self._forget(job)

    async def _forget(self, job: Job) -> None:
        try:
            await self._board.forget(job)
        except HaliError as exc:  # a full disk: the next start tries the job once more, which harms nobody
            log.warning("job.not_forgotten", job=job.spec.what, error=str(exc))

    async def _do(self, job: Job) -> dict[str, Any]:
        started = anyio.current_time()
        job.update(Progress("resolving", job.spec.what))
        if job.spec.kind == "add":
            result = await self._add(job)
        else:
            result = await self._pull(job)
        result["seconds"] = round(anyio.current_time() - started, 3)
        return result

    # ---- pull

    async def _pull(self, job: Job) -> dict[str, Any]:
        target = of_quant(parse_target(job.spec.what), job.spec.quant)
        stored = self._resolver.stored(target, job.spec.mmproj)
        if stored is not None and await self._library.still_whole(stored):
            return self._describe(stored, from_store=True)
        if not self._gate.is_open:  # what is here already was answered above; all else waits for the end of a pause
            job.update(Progress("queued", job.spec.what))
            await self._gate.wait()
            job.update(Progress("resolving", job.spec.what))
        spec = job.spec
        layers = parse_layers(spec.layers) if spec.layers is not None else None
        mmproj = spec.mmproj if layers is None else False
        plan = await self._resolver.plan(target, allow_untrusted=spec.allow_untrusted, mmproj=mmproj)
        with ExitStack() as room:
            admit = partial(self._keep_room, room, plan)
            if plan.size is not None and layers is None:
                admit(plan.size)
            return await self._fetch(job, plan, layers, admit)

    def _keep_room(self, room: ExitStack, plan: Plan, size: int) -> None:
        """NoSpace above the quota; else the bytes are kept for this pull as long as `room` is open."""
        known = self._resolver.known_by(plan)
        if any(entry.is_whole for entry in known):
            return
        file = (plan.ref.sha256 if plan.ref else plan.sha256_prefix or plan.key)[:32]
        gives_way = known[0].record.meta.sha256 if known else None
        room.enter_context(self._space.coming(plan.name, size, file, gives_way))

    async def _fetch(self, job: Job, plan: Plan, layers: Layers | None, admit: Admit) -> dict[str, Any]:
        progress = Progress("connecting", plan.name, total=plan.ref.size if plan.ref else None)
        queued = partial(job.update, msgspec.structs.replace(progress, state="queued"))
        async with self._one_at_a_time(plan, queued):
            stored = self._resolver.stored_by(plan)
            if stored is not None and await self._library.still_whole(stored):
                return self._describe(stored, from_store=True)
            async with self._room.place(job.spec.id, job.priority, job.number, queued):
                job.update(progress)
                async with self._partials.lent(plan, whole=layers is None):
                    if layers is not None:
                        return await self._pull_part(job, plan, layers)
                    return await self._puller.pull(job, plan, None if plan.size is not None else admit)

    async def _pull_part(self, job: Job, plan: Plan, layers: Layers) -> dict[str, Any]:
        part = Part(layers, partial(self._space.admit, plan.name))
        try:
            torrent, came = await self._puller.pull_part(job, plan, part)
        except Disagreement:  # repository and torrent differ, and no SHA-256 of a whole can tell who is right
            await self._library.discard(plan.key)
            raise
        sha256 = promised_sha256(plan) or await self._resolver.sha256_prefix(torrent.infohashes)
        with anyio.CancelScope(shield=True):
            entry = await self._partials.keep(plan, layers, torrent, sha256=sha256)
        size = part.size(torrent.length)
        job.update(Progress("seeding", entry.record.meta.model_id, size, size))
        return self._partials.describe(entry) | {"from_store": False, "came": came}

    @asynccontextmanager
    async def _one_at_a_time(self, plan: Plan, waits: Callable[[], None]) -> AsyncIterator[None]:
        """The same file asked for under two names is fetched once, as far as the names tell; the second finds it in the store.

        `waits` is called when another pull of it is under way.
        """
        async with AsyncExitStack() as stack:
            for name in sorted(plan.identities):  # always in one order, so that two jobs cannot wait for each other
                lock = self._locks.setdefault(name, anyio.Lock())
                if lock.locked():
                    waits()
                await stack.enter_async_context(lock)
            yield

    # ---- add

    async def _add(self, job: Job) -> dict[str, Any]:
        model, beside = Path(job.spec.what), job.spec.beside
        sources = sources_of(model, Path(beside) if beside is not None else None)
        found = [(path, await anyio.to_thread.run_sync(examine, path, model)) for path in sources]
        if len({path.name.casefold() for path, _ in found}) < len(found):
            raise UsageError(f"two files of one model cannot both be called {model.name}")
        key = f"add-{job.spec.id}"
        try:
            async with self._imports:
                return await self._import(job, found, self._library.store.incoming(key))
        except Cancelled:
            raise
        except (HaliError, OSError):
            await self._library.discard(key)  # nothing of a failed import is worth keeping: the file is still there
            raise

    async def _import(
        self, job: Job, sources: Sequence[tuple[Path, os.stat_result]], directory: Path
    ) -> dict[str, Any]:
        await self._bring_in(sources, directory, link=job.spec.link)
        by_name = {path.name: Wanted(path.name, info.st_size) for path, info in sources}
        wanted = [by_name[name] for name in in_order(by_name)]
        tag = " ".join(_version(info) for _, info in sources)
        with await IncomingModel.open(directory, wanted, tag=tag, writable=False) as incoming:
            update = partial(Progress, "hashing", incoming.name, total=incoming.length)
            job.update(update(done=incoming.done_bytes))
            arrived = await incoming.finish(lambda done: anyio.from_thread.run_sync(job.update, update(done=done)))
            last_byte = anyio.current_time()
            entry, is_new = await self._adopt(arrived, Origin(sources={"import": incoming.length}))
        with anyio.CancelScope(shield=True):  # it is in the store: who cancels now is too late
            await self._library.discard(directory.name)
        if not is_new:
            return self._describe(entry, from_store=True)
        job.update(Progress("seeding", entry.record.meta.model_id, incoming.length, incoming.length))
        return self._describe(entry, from_store=False) | {"seeding_after_s": round(anyio.current_time() - last_byte, 4)}

    async def _adopt(self, arrived: Sequence[Arrived], origin: Origin) -> tuple[Entry, bool]:
        """The model of these files, and whether it is new: of two imports of the same bytes the second finds the first."""
        sha256 = identity([each.ref for each in arrived])
        async with self._locks.setdefault(f"add-{sha256}", anyio.Lock()):  # apart from pulls, which may last for hours
            known = self._library.entry(sha256)
            if known is not None and await self._library.still_whole(known):
                return known, False
            with anyio.CancelScope(shield=True):
                entry = await self._library.adopt(arrived, origin)
        return entry, True

    @staticmethod
    async def _bring_in(sources: Sequence[tuple[Path, os.stat_result]], directory: Path, *, link: bool) -> None:
        for number, (path, info) in enumerate(sources):
            note = directory / JOURNALS / f"{number}.imported" if len(sources) > 1 else None
            bring = partial(bring_in, path, directory / path.name, link=link, tag=_version(info), note=note)
            await anyio.to_thread.run_sync(bring)

    def _describe(self, entry: Entry, *, from_store: bool) -> dict[str, Any]:
        """A model as the result of a job."""
        return self._library.describe(entry) | {"from_store": from_store}


def _version(info: os.stat_result) -> str:
    """This state of a file that is imported."""
    return f"{info.st_mtime_ns}:{info.st_ino}"
