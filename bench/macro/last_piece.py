"""A model of which all pieces but the last have come, as often as a benchmark needs it: hali's own parts, with no network.

Real are the manager of pulls, the resolver, the library and its store, journal, hashers, database and the libtorrent
sessions. Stand-ins are the hub's listing and the HTTP source, which holds the last piece back until it is told.
The file is sparse: what "came" before are holes, so 100 GB cost the disk 16 MiB, and reading them is as fast as it gets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio

from bench.macro.last_bytes import LAST, Clock, HeldBack, NotingSession, Took
from hali.hashing import hash_file_async
from hali.model.digests import PieceDigests
from hali.model.ids import InfoHashes
from hali.model.units import PIECE
from hali.runtime.activity import Activity
from hali.runtime.channels import Watch, mailbox
from hali.share.acquire import AcquisitionManager
from hali.share.base import Nobody
from hali.share.board import JobBoard
from hali.share.incoming import JOURNAL, METAINFO, IncomingFile
from hali.share.incoming_model import Arrived, Wanted
from hali.share.job import Job, JobSpec
from hali.share.library import Library, Origin
from hali.share.partials import Partials
from hali.share.pulling import Puller
from hali.share.queue import WaitingRoom
from hali.share.range_lane import Counted
from hali.share.resolve import Plan, Resolver
from hali.share.space import Space
from hali.share.tally import Tally
from hali.share.underway import Underway
from hali.store.database import Database
from hali.store.journal import Journal
from hali.store.models import ModelStore, Record
from hali.store.partials import PartialStore
from hali.store.usage import Usage
from hali.transfer import magnet
from hali.transfer.gate import Gate
from hali.transfer.http import RangeSource
from hali.transfer.hub_models import RepoFile, RepoListing
from hali.transfer.options import SessionOptions
from hali.transfer.session import TorrentSession, running

Way = Literal["http", "torrent"]
REPO, COMMIT = "bench/Sparse-7B-GGUF", "0" * 40
NAME = "Sparse-7B-Q4_0.gguf"
DEADLINE_S = 60.0  # so that a benchmark of a broken hali ends; nothing measures against it
LOOPBACK = SessionOptions(addresses=("127.0.0.1",), lsd=False)


class Download:
    """One file of `pieces` pieces: `create`, `hash_after`, `take_back`, `prepare`; then rounds of one way and `take_back`.

    The ways are `begin` and `finish`, which is hali's, and `hash_after`. Between rounds the file lies outside the store.
    """

    def __init__(self, folder: Path, pieces: int, ours: NotingSession, theirs: TorrentSession) -> None:
        self.pieces, self.length = pieces, pieces * PIECE
        self._ours, self._theirs, self._folder, self._file = ours, theirs, folder, folder / NAME
        self._torrents: Watch[TorrentSession | None] = Watch(ours)
        self._library = Library(ModelStore(folder / "models"), folder / "torrents", lambda _: None)
        self._database = Database(folder / "hali.db")
        self._jobs, self._queue = mailbox("acquisition", 1)  # one job at a time
        self._room = WaitingRoom(1)
        self._board = JobBoard(self._database, self._jobs, self._room)
        self._found: dict[int, PieceDigests] = {}
        self._midstate = b""
        self._record: Record | None = None  # of the model as `hash_after` adopted it
        self._torrent = b""
        self._source = HeldBack(pieces - 1)
        self._job: Job | None = None

    def close(self) -> None:
        """Release what was opened; the manager must have ended."""
        self._jobs.close()
        self._queue.close()
        self._database.close()

    def manager(self) -> AcquisitionManager:
        """As the daemon makes it."""
        hub: Any = self
        resolver = Resolver(self._library, Nobody(), hub, fetch_metainfo=self._no_metainfo, loopback_peers=True)
        puller = Puller(
            self._library,
            resolver,
            self._torrents,
            Underway(lambda: None),
            open_source=self._open_source,
            open_web_seed=self._no_web_seed,
            streaming=True,
            connections=8,
            tally=Tally(),
        )
        return AcquisitionManager(
            board=self._board,
            queue=self._queue,
            library=self._library,
            resolver=resolver,
            torrents=self._torrents,
            puller=puller,
            room=self._room,
            gate=Gate(),
            partials=Partials(PartialStore(self._library.store)),
            space=Space(self._library, Usage(self._database), self._folder / "torrents"),
            activity=Activity(),
        )

    async def resolve(self, repo: str, _revision: str | None) -> RepoListing:
        """The hub's part: one file, and its SHA-256 is known before."""
        return RepoListing(repo, COMMIT, (RepoFile(NAME, self.length, self._known.meta.sha256),))

    async def _open_source(self, _plan: Plan, _file: Wanted, _counted: Counted) -> RangeSource:
        return self._source

    @staticmethod
    async def _no_web_seed(url: str, _size: int, _counted: Counted) -> RangeSource:
        raise AssertionError(f"the torrent names no web seed, and not {url}")

    @staticmethod
    async def _no_metainfo(link: str) -> bytes:
        raise AssertionError(f"the torrent is known, and not asked for by {link}")

    @property
    def _known(self) -> Record:
        assert self._record is not None
        return self._record

    # ---- a download up to its last piece

    def create(self) -> None:
        """The whole file, all holes but the last piece; and another for the one who seeds it."""
        (self._folder / "theirs").mkdir()
        for path in (self._file, self._folder / "theirs" / NAME):
            with path.open("wb") as file:
                file.truncate(self.length)
                file.seek(self.length - PIECE)
                file.write(LAST)

    async def prepare(self) -> None:
        """Journals with every piece but the last, whose digests `hash_after` has found: a download finds the same."""
        for way in ("http", "torrent"):
            directory, options = self._folder / way, self._opening(way)
            directory.mkdir()
            os.link(self._file, directory / NAME)
            journal = Journal.open(directory / JOURNAL, self.length, name=NAME, **options)
            for index in range(self.pieces - 2):
                journal.record_piece(index, self._found[index])
            journal.record_midstate(self._midstate)
            journal.close()
            # Read only: a download would ask the disk for room for all of the file here, and holes need none.
            with await IncomingFile.open(directory, NAME, self.length, **options, writable=False) as opened:
                await opened.adopt_piece(self.pieces - 2)
                assert (opened.missing, opened.hasher.prefix) == ([self.pieces - 1], self.pieces - 1)
            (directory / NAME).unlink()
        (self._folder / "torrent" / METAINFO).write_bytes(self._torrent)
        await self._theirs.seed(self._torrent, self._folder / "theirs")

    def _opening(self, way: Way) -> dict[str, Any]:
        """How hali opens the unfinished file: the hub told its SHA-256, or the torrent is known."""
        known = self._known
        return {"sha256": known.meta.sha256} if way == "http" else {"tag": known.infohashes.best}

    def _found_piece(self, index: int, digests: PieceDigests, midstate: bytes) -> None:
        self._found[index] = digests
        if int.from_bytes(midstate[:8], "big") < self.pieces:  # the SHA-256 of a prefix without the last piece
            self._midstate = midstate

    async def begin(self, way: Way) -> None:
        """Put the unfinished file where a pull by `way` goes on with it."""
        known = self._known
        key = known.meta.sha256 if way == "http" else known.infohashes.best
        directory = self._library.store.incoming(key)
        shutil.copytree(self._folder / way, directory, dirs_exist_ok=True)
        os.rename(self._file, directory / NAME)
        if way == "http":
            self._source = HeldBack(self.pieces - 1)
            self._job = await self._board.submit(JobSpec("pull", f"{REPO}/{NAME}"))
            with anyio.fail_after(DEADLINE_S):
                await self._source.reached.wait()

    async def finish(self, way: Way) -> Took:
        """From the last piece to a job that is done and a model that is `seeding`. By torrent, that piece is fetched first."""
        if way == "torrent":
            link = magnet.build(self._known.infohashes, NAME, peers=[("127.0.0.1", self._theirs.port)])
            self._job = await self._board.submit(JobSpec("pull", link))
        assert self._job is not None
        self._source.go.set()
        with anyio.fail_after(DEADLINE_S):
            await self._job.ended()
        given = self._source.given if way == "http" else self._ours.given
        took = given.took() if given is not None else None
        assert self._job.outcome()["from_store"] is False and took is not None
        return took

    async def hash_after(self) -> Took:
        """The rival: write the last piece, then hash the file with all cores, then the same adoption."""
        path = self._library.store.incoming("rival") / NAME
        os.rename(self._file, path)
        clock = Clock()
        with path.open("r+b") as file:
            file.seek(self.length - PIECE)
            file.write(LAST)
            file.flush()
            digests = await hash_file_async(path, on_piece=self._found_piece)
            await anyio.to_thread.run_sync(partial(os.fsync, file.fileno()))
        entry = await self._library.adopt([Arrived(path, digests)], Origin(REPO, COMMIT, {"http": self.length}))
        took = clock.took()
        self._record = entry.record
        self._torrent = (self._folder / "torrents" / f"{entry.record.meta.infohash_v1}.torrent").read_bytes()
        return took

    # ---- between two rounds

    async def check(self) -> InfoHashes:
        """The model is whole, in the store and served, and its file still sparse; its infohashes."""
        (entry,) = self._library.entries()
        assert (entry.state, entry.record.meta.size) == ("seeding", self.length)
        assert [s.state for s in await self._ours.status()] == ["seeding"]
        assert self._library.store.records() == [entry.record] and not entry.record.changed_on_disk()
        assert entry.record.meta.sha256 == self._known.meta.sha256
        assert entry.record.path.stat().st_blocks * 512 < 2 * PIECE
        return entry.record.infohashes

    async def take_back(self) -> None:
        """Out of the store again, without the last piece, on disk too: no round waits for the writes of another."""
        (entry,) = self._library.entries()
        os.link(entry.record.path, self._file)
        await self._library.remove(entry)
        with self._file.open("r+b") as file:
            file.truncate(self.length - PIECE)
            file.truncate(self.length)
            os.fsync(file.fileno())


@asynccontextmanager
async def download(folder: Path, pieces: int) -> AsyncIterator[Download]:
    """A download in `folder`; the torrent sessions and the manager run as long as the block."""
    ours = NotingSession(LOOPBACK)
    async with running(LOOPBACK) as theirs, anyio.create_task_group() as outer:
        await outer.start(ours.run)
        made = Download(folder, pieces, ours, theirs)
        try:
            async with anyio.create_task_group() as group:
                await group.start(made.manager().run)
                yield made
                group.cancel_scope.cancel()
        finally:
            made.close()
        outer.cancel_scope.cancel()
