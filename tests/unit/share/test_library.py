"""What happens when one model is added, verified and deleted at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from hali.daemon.telling import telling_hashing
from hali.hashing import hash_file
from hali.model.errors import NotFound, VerificationFailed
from hali.model.ids import InfoHashes
from hali.runtime.activity import Activity
from hali.share.acquire import AcquisitionManager
from hali.share.incoming_model import Arrived
from hali.share.job import Job, JobSpec
from hali.share.library import Entry, Library, Origin
from hali.store.models import ModelStore
from hali.transfer import metainfo

pytestmark = pytest.mark.anyio

BYTES = b"the same bytes"


class Held:
    """Makes whoever comes to it wait until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go_on = anyio.Event(), anyio.Event()

    def before(self, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def held(*args: Any, **named: Any) -> Any:
            self.reached.set()
            await self.go_on.wait()
            return await work(*args, **named)

        return held


class Seeds:
    """In place of a torrent session; the first who seeds is held."""

    def __init__(self) -> None:
        self.held = Held()
        self.held.go_on.set()
        self.seeded: list[Path] = []

    async def seed(self, metainfo: bytes, directory: Path) -> InfoHashes:
        self.held.reached.set()
        await self.held.go_on.wait()
        self.seeded.append(directory)
        return InfoHashes("1" * 40)

    async def remove(self, infohashes: InfoHashes) -> None:
        self.seeded.clear()


@pytest.fixture
def seeds() -> Seeds:
    return Seeds()


@pytest.fixture
async def library(tmp_path: Path, seeds: Seeds) -> Library:
    (tmp_path / "torrents").mkdir()
    made = Library(ModelStore(tmp_path / "models"), tmp_path / "torrents", lambda records: None)
    await made.seed_all(seeds)
    return made


def arrived(library: Library, name: str) -> list[Arrived]:
    path = library.store.incoming(f"key-{name}") / name
    path.write_bytes(BYTES)
    return [Arrived(path, hash_file(path))]


def folders(library: Library) -> list[str]:
    return sorted(path.parent.name for path in library.store.root.glob("[!.]*/*/*/metadata.json"))


async def test_the_same_bytes_taken_in_twice_at_once_are_one_model_in_one_folder(library: Library) -> None:
    async with anyio.create_task_group() as group:
        for name in ("U-1B-Q4_0.gguf", "Other-2B-Q8_0.gguf"):
            group.start_soon(library.adopt, arrived(library, name), Origin())
    (entry,) = library.entries()
    assert folders(library) == [entry.record.directory.name]
    assert entry.record.path.read_bytes() == BYTES


def importer(library: Library) -> AcquisitionManager:
    none: Any = None
    return AcquisitionManager(
        board=none,
        queue=none,
        library=library,
        resolver=none,
        torrents=none,
        puller=none,
        room=none,
        gate=none,
        partials=none,
        space=none,
        activity=Activity(),
    )


async def test_an_import_that_is_cancelled_when_it_is_in_the_store_is_done(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "U-1B-Q4_0.gguf").write_bytes(BYTES)
    job, adopt = Job(JobSpec("add", str(tmp_path / "U-1B-Q4_0.gguf"))), library.adopt

    async def cancelled_meanwhile(files: list[Arrived], origin: Origin) -> Entry:
        job.scope.cancel()
        return await adopt(files, origin)

    monkeypatch.setattr(library, "adopt", cancelled_meanwhile)
    with job.scope:
        job.finish(await importer(library)._add(job))
    assert job.outcome()["state"] == "seeding"
    assert not list((library.store.root / ".incoming").iterdir())


async def test_of_two_imports_of_the_same_bytes_at_once_the_second_finds_the_first(library: Library) -> None:
    manager = importer(library)
    found: list[tuple[Entry, bool]] = []

    async def take_in(name: str) -> None:
        found.append(await manager._adopt(arrived(library, name), Origin()))

    async with anyio.create_task_group() as group:
        for name in ("U-1B-Q4_0.gguf", "Other-2B-Q8_0.gguf"):
            group.start_soon(take_in, name)
    assert [is_new for _, is_new in found] == [True, False] and found[0][0] is found[1][0]


@pytest.mark.parametrize("harm", ["lost", "empty", "cut", "flipped", "another's"])
async def test_a_torrent_that_is_lost_or_damaged_is_made_anew_and_the_model_stays_sound(
    harm: str, library: Library, seeds: Seeds
) -> None:
    entry = await library.adopt(arrived(library, "U-1B-Q4_0.gguf"), Origin())
    (path,) = library._torrents.iterdir()
    good = path.read_bytes()
    where = good.index(b"6:pieces20:") + 15
    harmed = {
        "lost": None,
        "empty": b"",
        "cut": good[:-20],
        "flipped": good[:where] + bytes([good[where] ^ 1]) + good[where + 1 :],
        "another's": metainfo.build(hash_file(entry.record.path), "Other-1B-Q4_0.gguf"),
    }[harm]
    path.unlink() if harmed is None else path.write_bytes(harmed)
    for work in (partial(library.seed_all, seeds), partial(library.verify, entry)):
        await work()
        assert (entry.state, entry.trusted, entry.error) == ("seeding", True, None)
        assert path.read_bytes() == good
        path.unlink() if harmed is None else path.write_bytes(harmed)


async def test_a_model_that_is_deleted_while_it_is_verified_is_not_found(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await library.adopt(arrived(library, "U-1B-Q4_0.gguf"), Origin())
    held = Held()
    monkeypatch.setattr(library, "_hash", held.before(library._hash))
    told = []

    async def verify() -> None:
        with pytest.raises(NotFound, match="u:1b:base:q4_0 was deleted"):
            await telling_hashing(entry, _no_progress, library.verify(entry))
        told.append("not found")

    async with anyio.create_task_group() as group:
        group.start_soon(verify)
        await held.reached.wait()
        await library.remove(entry)
        held.go_on.set()
    assert told and not library.entries() and not folders(library)


async def test_a_file_that_goes_while_it_is_verified_makes_the_model_missing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await library.adopt(arrived(library, "U-1B-Q4_0.gguf"), Origin())
    hash_it = library._hash

    async def hash_late(*args: Any) -> Any:
        entry.record.path.unlink()
        return await hash_it(*args)

    monkeypatch.setattr(library, "_hash", hash_late)
    with pytest.raises(NotFound, match="its file is gone"):
        await library.verify(entry)
    assert entry.state == "missing"


def cancelling(seeds: Seeds, scope: anyio.CancelScope, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Who asked hangs up just when the session is told."""
    told = getattr(seeds, call)

    async def hung_up(*args: Any) -> Any:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        return await told(*args)

    monkeypatch.setattr(seeds, call, hung_up)


async def test_a_verdict_holds_though_who_asked_for_it_hangs_up(
    library: Library, seeds: Seeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await library.adopt(arrived(library, "U-1B-Q4_0.gguf"), Origin())
    entry.record.path.write_bytes(BYTES.upper())
    with anyio.CancelScope() as scope:
        cancelling(seeds, scope, monkeypatch, "remove")
        with pytest.raises(VerificationFailed):
            await library.verify(entry)
    assert (entry.state, seeds.seeded) == ("damaged", [])
    entry.record.path.write_bytes(BYTES)
    with anyio.CancelScope() as scope:
        cancelling(seeds, scope, monkeypatch, "seed")
        await library.verify(entry)
    assert (entry.state, len(seeds.seeded)) == ("seeding", 1)


async def test_a_model_is_deleted_whole_though_who_asked_for_it_hangs_up(
    library: Library, seeds: Seeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await library.adopt(arrived(library, "U-1B-Q4_0.gguf"), Origin())
    with anyio.CancelScope() as scope:
        cancelling(seeds, scope, monkeypatch, "remove")
        await library.remove(entry)
    assert (library.entries(), seeds.seeded, folders(library)) == ([], [], [])


async def test_a_verification_that_cannot_begin_leaves_the_model_as_it_was(library: Library) -> None:
    entry = await library.adopt(arrived(library, "U-1B-Q4_0.gguf"), Origin())
    torrent = library._torrent_path(entry.record.meta.infohash_v1)
    torrent.unlink()
    torrent.mkdir()
    with pytest.raises(IsADirectoryError):
        await library.verify(entry)
    assert (entry.state, entry.progress) == ("seeding", None)


async def test_the_event_loop_waits_for_no_disk(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    waited, sync = set[int](), os.fsync

    def noted(fd: int) -> None:
        waited.add(threading.get_ident())
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    file = arrived(library, "U-1B-Q4_0.gguf")
    foreign = metainfo.build(file[0].digests, "theirs.gguf")
    entry = await library.adopt(file, Origin(foreign=foreign))
    os.utime(entry.record.path, ns=(1, 1))
    library._torrent_path(entry.record.meta.infohash_v1).unlink()
    await library.verify(entry)
    await library.damaged(entry.record.infohashes, "cannot be read")
    assert waited and threading.get_ident() not in waited
    assert (entry.state, entry.record.meta.mtime_ns) == ("damaged", 0)


async def test_a_model_whose_file_is_gone_is_not_said_to_be_seeded(library: Library, seeds: Seeds) -> None:
    entry = await library.adopt(arrived(library, "U-1B-Q4_0.gguf"), Origin())
    await library.look_for_files()
    assert (entry.state, len(seeds.seeded)) == ("seeding", 1)
    entry.record.path.unlink()
    await library.look_for_files()
    assert (entry.state, seeds.seeded) == ("missing", [])
    assert entry.error is not None and "its file is gone" in entry.error


async def test_who_deletes_a_model_that_is_just_coming_waits_and_of_two_one_finds_nothing(
    library: Library, seeds: Seeds
) -> None:
    seeds.held = held = Held()
    lost = []

    async def remove() -> None:
        try:
            await library.remove(library.entries()[0])
        except NotFound:
            lost.append(1)

    async with anyio.create_task_group() as group:
        group.start_soon(library.adopt, arrived(library, "U-1B-Q4_0.gguf"), Origin())
        await held.reached.wait()
        group.start_soon(remove)
        group.start_soon(remove)
        await anyio.wait_all_tasks_blocked()
        assert folders(library)
        held.go_on.set()
    assert len(lost) == 1
    assert (library.entries(), folders(library), seeds.seeded) == ([], [], [])


async def _no_progress(event: Any) -> None:
    """Nobody listens."""
