"""Carrying out a plan: every source at once into one file, the SHA-256 as judge, the store at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from hali.model.digests import FileDigests
from hali.model.errors import HaliError, Refused, TransferFailed, VerificationFailed
from hali.model.sources import SourceKind
from hali.runtime.channels import Watch
from hali.runtime.log import get_logger
from hali.share.download import Download, Rate
from hali.share.intake import Disagreement, Intake
from hali.share.job import Job, JobState, Progress
from hali.share.library import Entry, Library, Origin
from hali.share.part import Part
from hali.share.range_lane import Counted, RangeLane
from hali.share.resolve import Plan, Resolver
from hali.share.swarm_lane import SwarmLane
from hali.transfer.http import RangeSource
from hali.transfer.metainfo import Metainfo
from hali.transfer.session import TorrentSession

log = get_logger(__name__)

T = TypeVar("T")

INTRODUCE_S = 2.0  # between two looks for new peers on the LAN; what is known there already costs no packet,
MAX_INTRODUCE_S = 30.0  # and while nobody is known the questions become rare; below the patience of a fetch
MAX_WEB_SEEDS = 4  # of one torrent: each may have several connections

Sources = Literal["all", "http", "swarm"]  # of a plan that are used in one attempt
OpenSource = Callable[[Plan, Counted], Awaitable[RangeSource]]
OpenWebSeed = Callable[[str, int, Counted], Awaitable[RangeSource]]  # URL, size of the file


class Puller:
    """Makes seeded models out of plans."""

    def __init__(
        self,
        library: Library,
        resolver: Resolver,
        torrents: Watch[TorrentSession | None],
        *,
        open_source: OpenSource,
        open_web_seed: OpenWebSeed,
        streaming: bool,
        connections: int,
    ) -> None:
        self._library, self._resolver, self._torrents = library, resolver, torrents
        self._open_source, self._open_web_seed = open_source, open_web_seed
        self._streaming, self._connections = streaming, connections

    async def pull(self, job: Job, plan: Plan) -> dict[str, Any]:
        """Fetch, check and adopt. When repository and swarm together give a wrong file, each is tried alone: one may be right."""
        try:
            return await self._attempt(job, plan, "all")
        except VerificationFailed as exc:
            if plan.ref is None:
                raise
            log.warning("pull.sources_disagree", model=plan.name, error=str(exc))
            failure = exc
        try:
            if await self._forget_swarm(plan) or isinstance(failure, Disagreement):
                return await self._attempt(job, plan, "http")
        except (VerificationFailed, TransferFailed) as exc:
            log.warning("pull.repository_wrong", model=plan.name, error=str(exc))
        await self._discard(plan)
        plan = await self._ask_lan(self._resolver.with_lan(plan)) or plan
        if plan.torrent is None:
            raise failure
        return await self._attempt(job, plan, "swarm")

    async def pull_part(self, job: Job, plan: Plan, part: Part) -> tuple[Metainfo, int]:
        """Fetch the pieces of `part`, each checked by the torrent's hashes, into the folder of `plan`; the torrent, and bytes that came."""
        if plan.torrent is None:
            raise Refused(
                f"layers of {plan.name} need a node or torrent that has the whole file's hashes",
                hint="pull the whole model, or ask where a hali node on this network or a .torrent of it has it",
            )
        intake = self._intake(plan, part)
        download = Download(plan.name, intake, lambda rate: _report(job, plan.name, intake, rate))
        try:
            # The file is opened by the swarm, once it knows the torrent: no byte comes by HTTP before it can be checked.
            self._add_sources(plan, intake, download, "all")
            await download.run()
            assert intake.metainfo is not None
            return intake.metainfo, intake.came
        finally:
            intake.close()

    async def _attempt(self, job: Job, plan: Plan, sources: Sources) -> dict[str, Any]:
        intake = self._intake(plan)
        download = Download(plan.name, intake, lambda rate: _report(job, plan.name, intake, rate))
        try:
            if plan.ref is not None:
                await intake.open(plan.ref.file, length=plan.ref.size)
            if not intake.complete.is_set():
                self._add_sources(plan, intake, download, sources)
                await download.run()
            return await self._complete(job, plan, intake)
        finally:
            intake.close()

    def _intake(self, plan: Plan, part: Part | None = None) -> Intake:
        directory, ref = self._library.store.incoming(plan.key), plan.ref
        pinned = (ref.sha256, ref.size) if ref else (None, None)
        return Intake(directory, streaming=self._streaming, sha256=pinned[0], size=pinned[1], part=part)

    async def _forget_swarm(self, plan: Plan) -> bool:
        """Believe nothing that peers brought; False when that was nothing. What came from the repository is kept: it names the SHA-256."""
        assert plan.ref is not None
        intake = self._intake(plan)
        try:
            await intake.open(plan.ref.file, length=plan.ref.size)
            return intake.forget_swarm()
        finally:
            intake.close()

    async def _discard(self, plan: Plan) -> None:
        """In a thread: removing a huge file takes the file system a while."""
        await anyio.to_thread.run_sync(self._library.store.discard_incoming, plan.key)

    # ---- sources

    def _add_sources(self, plan: Plan, intake: Intake, download: Download, sources: Sources) -> None:
        """The lanes of `plan`; meanwhile nodes of the LAN that get the file, or come back, join in."""
        has_http = plan.ref is not None and sources != "swarm"
        if has_http:
            download.add(self._lane(intake, SourceKind.HTTP, partial(self._open_source, plan), download))
        if plan.torrent is not None and sources != "http":
            swarm = self._swarm(plan, intake, shared=has_http)
            download.add(swarm)
            download.beside(partial(self._introduce, swarm))
            for url in plan.torrent.webseeds[:MAX_WEB_SEEDS] if plan.ref is None else ():
                open_it = partial(self._open_seed, url, intake)
                download.add(self._lane(intake, SourceKind.WEBSEED, open_it, download))
        elif sources == "all":
            download.beside(partial(self._look_out, plan, intake, download))

    def _lane(
        self, intake: Intake, kind: SourceKind, opener: Callable[[Counted], Awaitable[RangeSource]], download: Download
    ) -> RangeLane:
        return RangeLane(intake, kind, opener, download.heard, connections=self._connections)

    async def _open_seed(self, url: str, intake: Intake, counted: Counted) -> RangeSource:
        intake.check_web_seeds()
        return await self._open_web_seed(url, intake.incoming.length, counted)

    def _swarm(self, plan: Plan, intake: Intake, *, shared: bool) -> SwarmLane:
        assert plan.torrent is not None
        if plan.on_lan:
            intake.lan_hosts |= {host for host, _ in plan.peers}
        return SwarmLane(intake, self._torrents, plan.torrent, peers=plan.peers, trusted=plan.on_lan, shared=shared)

    async def _introduce(self, swarm: SwarmLane) -> None:
        pause = INTRODUCE_S
        while True:
            peers = await self._ask_lan(self._resolver.peers(swarm.infohashes))
            swarm.add_peers(peers or ())
            pause = INTRODUCE_S if peers else min(2 * pause, MAX_INTRODUCE_S)
            await anyio.sleep(pause)

    async def _look_out(self, plan: Plan, intake: Intake, download: Download) -> None:
        """Somebody on the LAN may have the file before we do."""
        pause = INTRODUCE_S
        while True:
            await anyio.sleep(pause)
            pause = min(2 * pause, MAX_INTRODUCE_S)
            found = await self._ask_lan(self._resolver.with_lan(plan))
            if found is not None and found.torrent is not None:
                swarm = self._swarm(found, intake, shared=True)
                download.add(swarm)
                await self._introduce(swarm)

    @staticmethod
    async def _ask_lan(question: Awaitable[T]) -> T | None:
        try:
            return await question
        except HaliError as exc:  # the LAN is only a help here
            log.warning("pull.lan_silent", error=str(exc))
            return None

    # ---- the end

    async def _complete(self, job: Job, plan: Plan, intake: Intake) -> dict[str, Any]:
        last_byte = anyio.current_time()
        incoming, sources = intake.incoming, intake.incoming.sources()
        state: JobState = "downloading" if self._streaming else "hashing"
        update = partial(Progress, state, incoming.path.name, total=incoming.length, sources=sources)
        job.update(update(done=incoming.done_bytes))
        digests = await incoming.finish(lambda done: anyio.from_thread.run_sync(job.update, update(done=done)))
        self._check(plan, digests, intake)
        # From here on it is a matter of milliseconds, and half of it would be worse.
        with anyio.CancelScope(shield=True):
            entry = await self._library.adopt(incoming.path, digests, _origin(plan, intake, sources))
        await self._discard(plan)
        after = anyio.current_time() - last_byte
        job.update(Progress("seeding", entry.record.meta.model_id, digests.length, digests.length, sources=sources))
        return self._described(entry) | {"seeding_after_s": round(after, 4), "came": intake.came}

    def _described(self, entry: Entry) -> dict[str, Any]:
        return self._library.describe(entry) | {"from_store": False}

    def _check(self, plan: Plan, digests: FileDigests, intake: Intake) -> None:
        """The file must be the one that was promised; if not, what may be wrong of it is thrown away."""
        expected = plan.ref.sha256 if plan.ref else plan.sha256_prefix
        if expected is None or digests.sha256.hex().startswith(expected):
            return
        if plan.ref is None:  # else `pull` looks what of it may be right
            intake.close()
            self._library.store.discard_incoming(plan.key)
        raise VerificationFailed(
            f"{plan.name}: what arrived has SHA-256 {digests.sha256.hex()}, promised was {expected}",
            hint="the source serves another file; it was thrown away",
            details={"sha256": digests.sha256.hex(), "expected_sha256": expected},
        )


def _origin(plan: Plan, intake: Intake, sources: dict[str, int]) -> Origin:
    ref, fetched_by = plan.ref, intake.metainfo
    return Origin(
        repo=ref.repo if ref else None,
        revision=ref.revision if ref else None,
        sources=sources,
        foreign=fetched_by.raw if fetched_by is not None else None,
        file=plan.repo_path or None,
    )


def _report(job: Job, name: str, intake: Intake, rate: Rate) -> None:
    if not intake.is_open:
        job.update(Progress("connecting", name, peers=rate.peers))
        return
    file = intake.incoming
    job.update(
        Progress(
            "downloading",
            file.path.name,
            file.done_bytes,
            intake.total,
            rate.bytes_per_second,
            rate.peers,
            file.sources(),
        )
    )
