"""Carrying out a plan: every source at once into one file, the SHA-256 as judge, the store at the end."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from hali.model.errors import HaliError, Refused, TransferFailed, VerificationFailed
from hali.model.sources import SourceKind
from hali.model.units import piece_span
from hali.runtime.channels import Watch
from hali.runtime.log import get_logger
from hali.share.download import Download, Rate
from hali.share.incoming_model import Arrived, Wanted
from hali.share.intake import Admit, Disagreement, Intake
from hali.share.job import Job, JobState, Progress
from hali.share.library import Library, Origin
from hali.share.part import Part
from hali.share.range_lane import Counted, OpenRanges, RangeLane
from hali.share.resolve import Plan, Resolver
from hali.share.swarm_lane import SwarmLane
from hali.share.tally import Tally
from hali.share.underway import Underway
from hali.transfer.bundle import address_of
from hali.transfer.http import RangeSource
from hali.transfer.metainfo import Metainfo
from hali.transfer.session import TorrentSession
from hali.wire.manifest import identity

log = get_logger(__name__)

T = TypeVar("T")

INTRODUCE_S = 2.0  # between two looks for new peers on the LAN; what is known there already costs no packet,
GATHER_S = 0.1  # for what comes together: a look at a full index of the LAN takes 10 ms
MAX_INTRODUCE_S = 30.0  # and while nobody is known the questions become rare; below the patience of a fetch
OVERWRITTEN_TIMES = 2  # that a pull goes on after pieces no longer held what was checked; rare, and among liars only
MAX_WEB_SEEDS = 4  # of one torrent: each may have several connections

Sources = Literal["all", "http", "swarm"]  # of a plan that are used in one attempt
OpenSource = Callable[[Plan, Wanted, Counted], Awaitable[RangeSource]]
OpenWebSeed = Callable[[str, int, Counted], Awaitable[RangeSource]]  # URL, size of the file


class Overwritten(VerificationFailed):
    """The file has no longer what was checked as it came: what liars sent late may be written over a piece that was right."""

    code = "overwritten"


class Puller:
    """Makes seeded models out of plans."""

    def __init__(
        self,
        library: Library,
        resolver: Resolver,
        torrents: Watch[TorrentSession | None],
        underway: Underway,
        *,
        open_source: OpenSource,
        open_web_seed: OpenWebSeed,
        streaming: bool,
        connections: int,
        tally: Tally,
    ) -> None:
        self._library, self._resolver, self._torrents, self._underway = library, resolver, torrents, underway
        self._open_source, self._open_web_seed = open_source, open_web_seed
        self._streaming, self._connections, self._tally = streaming, connections, tally

    async def pull(self, job: Job, plan: Plan, admit: Admit | None = None) -> dict[str, Any]:
        """Fetch, check and adopt. When repository and swarm together give a wrong file, each is tried alone: one may be right.

        `admit` is told how many bytes it will be where only the torrent's metadata tells that.
        """
        try:
            return await self._again_if_overwritten(job, plan, admit)
        except VerificationFailed as exc:
            if plan.ref is None:
                raise
            log.warning("pull.sources_disagree", model=plan.name, error=str(exc))
            failure = exc
        wrong = _wrong_files(plan, failure)
        try:
            if await self._forget(plan, wrong, only_swarm=True) or isinstance(failure, Disagreement):
                return await self._attempt(job, plan, "http")
        except (VerificationFailed, TransferFailed) as exc:
            log.warning("pull.repository_wrong", model=plan.name, error=str(exc))
        if len(wrong) == len(plan.wanted):
            await self._library.discard(plan.key)
        else:  # what is right of the others stays
            await self._forget(plan, wrong, only_swarm=False)
        plan = await self._ask_lan(self._resolver.with_lan(plan)) or plan
        if plan.torrent is None:
            raise failure
        return await self._attempt(job, plan, "swarm")

    async def _again_if_overwritten(self, job: Job, plan: Plan, admit: Admit | None) -> dict[str, Any]:
        for _ in range(OVERWRITTEN_TIMES):
            try:
                return await self._attempt(job, plan, "all", admit)
            except Overwritten as exc:
                log.warning("pull.overwritten", model=plan.name, error=str(exc))
        return await self._attempt(job, plan, "all", admit)

    async def pull_part(self, job: Job, plan: Plan, part: Part) -> tuple[Metainfo, int]:
        """Fetch the pieces of `part`, each checked by the torrent's hashes, into the folder of `plan`; the torrent, and bytes that came."""
        if plan.files:
            raise Refused(f"{plan.name} is one of several files: layers are pulled of models of one file")
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

    async def _attempt(self, job: Job, plan: Plan, sources: Sources, admit: Admit | None = None) -> dict[str, Any]:
        intake = self._intake(plan, admit=admit)
        download = Download(plan.name, intake, lambda rate: _report(job, plan.name, intake, rate))
        try:
            if plan.ref is not None:
                await intake.open(plan.wanted)
            if sources == "all":
                await self._from_store(job, plan, intake)
            if not intake.complete.is_set():
                self._add_sources(plan, intake, download, sources)
                await download.run()
            return await self._complete(job, plan, intake)
        finally:
            intake.close()

    async def _from_store(self, job: Job, plan: Plan, intake: Intake) -> None:
        """Copy those of the files that another model has: a projector of several quants, weights that were pulled without it."""
        for number, file in enumerate(plan.wanted):
            path = await self._library.file_of(file.sha256) if file.sha256 is not None else None
            if path is None:
                continue
            for index in sorted(intake.division.missing):
                whose, local = intake.incoming.map.locate(index)
                if whose != number:
                    continue
                try:
                    data = await anyio.to_thread.run_sync(_read_piece, path, *piece_span(local, file.length))
                except OSError as exc:
                    log.warning("pull.store_unreadable", file=str(path), error=str(exc))
                    break
                await intake.deliver(index, data, SourceKind.STORE)
                _report(job, plan.name, intake, Rate())

    def _intake(self, plan: Plan, part: Part | None = None, admit: Admit | None = None) -> Intake:
        directory = self._library.store.incoming(plan.key)
        return Intake(
            directory, streaming=self._streaming, pinned=plan.wanted, part=part, tally=self._tally, admit=admit
        )

    async def _forget(self, plan: Plan, wrong: Collection[str], *, only_swarm: bool) -> bool:
        """Believe nothing of these files, or nothing that peers brought of them; False when that was nothing.

        What came from the repository is the last to go: it names the SHA-256.
        """
        intake = self._intake(plan)
        try:
            await intake.open(plan.wanted)
            return intake.incoming.forget(wrong, only_swarm=only_swarm)
        finally:
            intake.close()

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

    def _lane(self, intake: Intake, kind: SourceKind, opener: OpenRanges, download: Download) -> RangeLane:
        return RangeLane(intake, kind, opener, download.heard, connections=self._connections)

    async def _open_seed(self, url: str, intake: Intake, file: Wanted, counted: Counted) -> RangeSource:
        intake.check_web_seeds()
        assert intake.metainfo is not None
        return await self._open_web_seed(address_of(url, intake.metainfo, file.name), file.length, counted)

    def _swarm(self, plan: Plan, intake: Intake, *, shared: bool) -> SwarmLane:
        assert plan.torrent is not None
        if plan.on_lan:
            intake.lan_hosts |= {host for host, _ in plan.peers}
        return SwarmLane(intake, self._torrents, plan.torrent, peers=plan.peers, trusted=plan.on_lan, shared=shared)

    async def _introduce(self, swarm: SwarmLane) -> None:
        pause = INTRODUCE_S
        with self._underway.place() as tell:
            while True:
                offers = await self._ask_lan(self._resolver.offers(swarm.infohashes)) or ()
                swarm.add_peers([peer for offer in offers for peer in offer.peers])
                if offers:
                    tell(offers[0])
                    await self._hear(INTRODUCE_S)
                else:
                    await anyio.sleep(pause)
                pause = INTRODUCE_S if offers else min(2 * pause, MAX_INTRODUCE_S)

    async def _hear(self, patience: float) -> None:
        """Until the LAN says something new: others begin to fetch the same."""
        with anyio.move_on_after(patience):
            await self._resolver.news()
            await anyio.sleep(GATHER_S)

    async def _look_out(self, plan: Plan, intake: Intake, download: Download) -> None:
        """Somebody on the LAN may have the file before we do."""
        pause = INTRODUCE_S
        while True:
            found = await self._ask_lan(self._resolver.with_lan(plan))
            if found is not None and found.torrent is not None:
                swarm = self._swarm(found, intake, shared=True)
                download.add(swarm)
                await self._introduce(swarm)
            await anyio.sleep(pause)
            pause = min(2 * pause, MAX_INTRODUCE_S)

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
        update = partial(Progress, state, incoming.name, total=incoming.length, sources=sources)
        job.update(update(done=incoming.done_bytes))
        if intake.lied_to:
            await _check_disk(intake)
        arrived = await incoming.finish(lambda done: anyio.from_thread.run_sync(job.update, update(done=done)))
        await self._check(plan, arrived, intake)
        # From here on it is a matter of milliseconds, and half of it would be worse.
        with anyio.CancelScope(shield=True):
            entry = await self._library.adopt(arrived, _origin(plan, intake, sources))
            await self._library.discard(plan.key)
        after = anyio.current_time() - last_byte
        job.update(Progress("seeding", entry.record.meta.model_id, incoming.length, incoming.length, sources=sources))
        told = {"from_store": False, "seeding_after_s": round(after, 4), "came": intake.came}
        return self._library.describe(entry) | told

    async def _check(self, plan: Plan, arrived: Sequence[Arrived], intake: Intake) -> None:
        """The model must be the one that was promised, in each of its files; if not, what may be wrong of it is thrown away."""
        refs = [each.ref for each in arrived]
        pinned = {file.name: file.sha256 for file in plan.wanted}
        wrong = [ref for ref in refs if ref.name in pinned and ref.sha256 != pinned[ref.name]]
        if wrong or (plan.ref is None and not identity(refs).startswith(plan.sha256_prefix or "")):
            await _check_disk(intake)
        if wrong:  # `pull` looks what of them may be right
            expected = pinned[wrong[0].name]
            raise _not_promised(wrong[0].name, wrong[0].sha256, expected, wrong=[ref.name for ref in wrong])
        sha256 = identity(refs)
        if plan.ref is None and plan.sha256_prefix is not None and not sha256.startswith(plan.sha256_prefix):
            intake.close()
            await self._library.discard(plan.key)
            raise _not_promised(plan.name, sha256, plan.sha256_prefix)


def _read_piece(path: Path, offset: int, size: int) -> memoryview:
    with path.open("rb", buffering=0) as file:
        data = bytearray(size)
        if os.preadv(file.fileno(), [data], offset) != size:
            raise OSError(f"it has fewer than {offset + size} bytes")
    return memoryview(data)


async def _check_disk(intake: Intake) -> None:
    """Overwritten when it holds something else than what was hashed; what is wrong of it will be fetched again."""
    if await intake.overwritten():
        what = f"{intake.incoming.name}: pieces were overwritten after they had been checked"
        raise Overwritten(what, retryable=True)


def _not_promised(name: str, sha256: str, expected: str | None, **details: Any) -> VerificationFailed:
    return VerificationFailed(
        f"{name}: what arrived has SHA-256 {sha256}, promised was {expected}",
        hint="the source serves another file; it was thrown away",
        details={"sha256": sha256, "expected_sha256": expected} | details,
    )


def _wrong_files(plan: Plan, failure: VerificationFailed) -> Collection[str]:
    """The files that may be wrong: those that were found to be, else all."""
    return failure.details.get("wrong") or [file.name for file in plan.wanted]


def _origin(plan: Plan, intake: Intake, sources: dict[str, int]) -> Origin:
    ref, fetched_by = plan.ref, intake.metainfo
    return Origin(
        repo=ref.repo if ref else None,
        revision=ref.revision if ref else None,
        sources=sources,
        foreign=fetched_by.raw if fetched_by is not None else None,
    )


def _report(job: Job, name: str, intake: Intake, rate: Rate) -> None:
    if not intake.is_open:
        job.update(Progress("connecting", name, peers=rate.peers, waits_s=rate.waits_s))
        return
    model = intake.incoming
    job.update(
        Progress(
            "downloading",
            model.name,
            intake.done,
            intake.total,
            rate.bytes_per_second,
            rate.peers,
            model.sources(),
            rate.waits_s,
        )
    )
