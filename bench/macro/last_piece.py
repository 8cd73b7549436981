"""A model of which all pieces but the last have come, as often as a benchmark needs it: hali's own parts, with no network.

Real are the manager of pulls, the resolver, the library and its store, journal, hashers, database and the libtorrent
session. Stand-ins are the hub's listing and the HTTP source, which holds the last piece back until it is told.
The file is sparse: what "came" before are holes, so 100 GB cost the disk 16 MiB, and reading them is as fast as it gets.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import anyio

from hali.hashing import hash_file_async
from hali.model.digests import PieceDigests
from hali.model.ids import InfoHashes
from hali.model.units import PIECE
from hali.runtime.channels import Watch, mailbox
from hali.share.acquire import AcquisitionManager
from hali.share.base import Nobody
from hali.share.board import JobBoard
from hali.share.incoming import JOURNAL, IncomingFile
from hali.share.job import Job, JobSpec
from hali.share.library import Entry, Library, Origin
from hali.share.resolve import Plan, Resolver
from hali.store.database import Database
from hali.store.journal import Journal
from hali.store.models import ModelStore
from hali.transfer.hub_choice import RepoFile, RepoListing
from hali.transfer.options import SessionOptions
from hali.transfer.session import TorrentSession, running

REPO, COMMIT = "bench/Sparse-7B-GGUF", "0" * 40
NAME = "Sparse-7B-Q4_0.gguf"
FINISH_S = 60.0  # a deadline, so that a benchmark of a broken hali ends; nothing measures against it
LAST = hashlib.shake_128(b"the last piece").digest(PIECE)  # a whole piece: the most that can be left to do


class Took(NamedTuple):
    """Seconds by the clock, and of the processor in all threads of this process."""

    wall: float
    cpu: float


class Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def took(self) -> Took:
        """So far."""
        return Took(time.perf_counter() - self._wall, time.process_time() - self._cpu)


class HeldBack:
    """The HTTP source: gives the last piece, the only one that is missing, when `go` is set."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.reached, self.go = anyio.Event(), anyio.Event()
        self.given = Clock()  # set just before hali begins to write the piece

    async def pieces(self, wanted: Sequence[int], sink: Any) -> None:
        """As `RangeSource.pieces`."""
        assert list(wanted) == [self._index]
        self.reached.set()
        await self.go.wait()
        self.given = Clock()
        await sink(self._index, memoryview(LAST))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Download:
    """One file of `pieces` pieces: `create`, `hash_after`, `take_back`, `prepare`; then rounds of one way and `take_back`.

    The ways are `begin` and `finish`, which is hali's, and `hash_after`.
    """

    def __init__(self, folder: Path, pieces: int, session: TorrentSession) -> None:
        self.pieces, self.length = pieces, pieces * PIECE
        self.sha256 = ""  # known after the first `hash_after`
        self._session = session
        self._torrents: Watch[TorrentSession | None] = Watch(session)
        self.library = Library(ModelStore(folder / "models"), folder / "torrents", lambda _: None)
        self._database = Database(folder / "hali.db")
        self._jobs, self._queue = mailbox("acquisition", 1)  # one job at a time
        self._board = JobBoard(self._database, self._jobs)
        self._found: dict[int, PieceDigests] = {}
        self._midstate = b""
        self._source = HeldBack(pieces - 1)
        self._job: Job | None = None
        self._kept = folder / JOURNAL  # a copy of the journal that `prepare` left

    def close(self) -> None:
        """Release what was opened; the manager must have ended."""
        self._jobs.close()
        self._queue.close()
        self._database.close()

    def manager(self) -> AcquisitionManager:
        """As the daemon makes it."""
        hub: Any = self
        return AcquisitionManager(
            board=self._board,
            queue=self._queue,
            library=self.library,
            resolver=Resolver(self.library, Nobody(), hub, fetch_metainfo=lambda _: anyio.sleep_forever()),
            torrents=self._torrents,
            open_source=self._open_source,
            streaming=True,
        )

    async def resolve(self, repo: str, _revision: str | None) -> RepoListing:
        """The hub's part: one file, and its SHA-256 is known before."""
        return RepoListing(repo, COMMIT, (RepoFile(NAME, self.length, self.sha256),))

    async def _open_source(self, _plan: Plan) -> Any:
        return self._source

    def _directory(self) -> Path:
        return self.library.store.incoming(self.sha256 or "first")

    # ---- a download up to its last piece

    def create(self) -> None:
        """The whole file, all holes but the last piece."""
        with (self._directory() / NAME).open("wb") as file:
            file.truncate(self.length)
            file.seek(self.length - PIECE)
            file.write(LAST)

    async def prepare(self) -> None:
        """Put every piece but the last on record. Their digests are those that `hash_after` found: a download finds the same."""
        directory, last = self._directory(), self.pieces - 1
        journal = Journal.open(directory / JOURNAL, self.length, name=NAME, sha256=self.sha256)
        for index in range(last - 1):
            journal.record_piece(index, self._found[index])
        journal.record_midstate(self._midstate)
        journal.close()
        # Read only: a download would ask the disk for room for all of the file here, and holes need none.
        opened = await IncomingFile.open(directory, NAME, self.length, sha256=self.sha256, writable=False)
        with opened:
            await opened.adopt_piece(last - 1)
            assert (opened.missing, opened.hasher.prefix) == ([last], last)
        shutil.copyfile(directory / JOURNAL, self._kept)

    def _found_piece(self, index: int, digests: PieceDigests, midstate: bytes) -> None:
        self._found[index] = digests
        if int.from_bytes(midstate[:8], "big") < self.pieces:  # the SHA-256 of a prefix without the last piece
            self._midstate = midstate

    def _hole(self, path: Path) -> None:
        """Take the last piece out of the file again, on disk too, so that no round waits for the writes of another."""
        with path.open("r+b") as file:
            file.truncate(self.length - PIECE)
            file.truncate(self.length)
            os.fsync(file.fileno())

    async def begin(self) -> None:
        """Pull the model, up to where the source is asked for the last piece."""
        self._source = HeldBack(self.pieces - 1)
        self._job = await self._board.submit(JobSpec("pull", f"{REPO}/{NAME}"))
        async with anyio.create_task_group() as group:
            group.start_soon(self._until_asked, group.cancel_scope)
            await self._job.ended()
            raise AssertionError(f"nothing was asked for: {self._job.outcome()}")

    async def _until_asked(self, waiting: anyio.CancelScope) -> None:
        await self._source.reached.wait()
        waiting.cancel()

    async def finish(self) -> Took:
        """Give the last piece and wait until the model is `seeding` and the job done."""
        assert self._job is not None
        self._source.go.set()
        with anyio.fail_after(FINISH_S):
            await self._job.ended()
        took = self._source.given.took()
        self._job.outcome()
        return took

    async def hash_after(self) -> Took:
        """The rival: write the last piece, then hash the file with all cores, then the same adoption."""
        path = self._directory() / NAME
        clock = Clock()
        with path.open("r+b") as file:
            file.seek(self.length - PIECE)
            file.write(LAST)
            file.flush()
            digests = await hash_file_async(path, on_piece=self._found_piece)
            await anyio.to_thread.run_sync(partial(os.fsync, file.fileno()))
        await self.library.adopt(path, digests, Origin(REPO, COMMIT, {"http": self.length}))
        took = clock.took()
        self.sha256 = digests.sha256.hex()
        return took

    # ---- between two rounds

    async def check(self) -> InfoHashes:
        """The model is whole, in the store and served, and its file still sparse; its infohashes."""
        entry = self._entry()
        assert (entry.state, entry.record.meta.size) == ("seeding", self.length)
        assert [s.state for s in await self._session.status()] == ["seeding"]
        found = ModelStore(self.library.store.root).records()
        assert found == [entry.record] and not entry.record.changed_on_disk()
        assert entry.record.path.stat().st_blocks * 512 < 2 * PIECE
        return entry.record.infohashes

    async def take_back(self) -> None:
        """Out of the store again: the file without its last piece, and the journal of then."""
        entry, directory = self._entry(), self._directory()
        os.link(entry.record.path, directory / NAME)
        await self.library.remove(entry)
        self._hole(directory / NAME)
        if self._kept.exists():
            shutil.copyfile(self._kept, directory / JOURNAL)

    def _entry(self) -> Entry:
        entry = self.library.entry(self.sha256)
        assert entry is not None
        return entry


@asynccontextmanager
async def download(folder: Path, pieces: int) -> AsyncIterator[Download]:
    """A download in `folder`, with a torrent session and a manager that run as long as the block."""
    async with running(SessionOptions(addresses=("127.0.0.1",), lsd=False)) as session:
        made = Download(folder, pieces, session)
        try:
            async with anyio.create_task_group() as group:
                await group.start(made.manager().run)
                yield made
                group.cancel_scope.cancel()
        finally:
            made.close()
