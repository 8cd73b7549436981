"""Room for models: what a prune takes and leaves, and what a pull above the quota is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hali.daemon.busy import what_is_busy
from hali.model.errors import NoSpace
from hali.model.ids import InfoHashes
from hali.share.job import Job, JobSpec, Progress
from hali.share.library import Library
from hali.share.space import Busy, Cut, Wish
from hali.share.using import UsageRecorder
from hali.store.database import Database
from hali.store.models import METADATA, ModelStore
from hali.store.usage import Usage
from tests.unit.share.nests import DAY, NOW, Nest


@pytest.fixture
def nest(tmp_path: Path) -> Iterator[Nest]:
    database = Database(tmp_path / "d")
    yield Nest(tmp_path / "nest", database)
    database.close()


@pytest.mark.blocking_ok
async def test_a_dry_run_changes_nothing_and_the_real_run_does_what_it_said(nest: Nest) -> None:
    for letter, used in (("a", 9), ("b", 30), ("c", 1), ("d", 20)):
        nest.add(letter, 1000, used)
    nest.usage.pin("b" * 64, True)
    nest.unfinished("stale", 8)
    nest.unfinished("fresh", 6)
    orphan = nest.torrent("e")
    space = nest.space()
    wish = Wish(quota=2500)
    planned = await space.plan(wish)
    assert (nest.left(), orphan.exists()) == ("abcd", True)
    done = await space.carry_out(await space.plan(wish))
    assert done == planned
    assert [m.sha256[0] for m in done.models] == ["d", "a"]
    assert ([u.key for u in done.unfinished], [p.name for p in done.torrents]) == (["stale"], [orphan.name])
    assert (nest.left(), orphan.exists(), (nest.torrents / f"{'b' * 40}.torrent").exists()) == ("bc", False, True)
    assert sorted(path.name for path in (nest.folder / "models/.incoming").iterdir()) == ["fresh"]
    assert await space.plan(wish) == Cut([], [], [], done.used - 2000, 0)


@pytest.mark.blocking_ok
async def test_what_comes_into_use_between_the_plan_and_the_deed_stays(nest: Nest) -> None:
    nest.add("a", 1000, 9)
    nest.add("b", 1000, 8)
    nest.unfinished("half", 30)
    space = nest.space()
    planned = await space.plan(Wish(quota=0))
    nest.busy = Busy({"a" * 64: "in memory"}, frozenset({"half.gguf"}))
    done = await space.carry_out(planned)
    assert ([m.sha256[0] for m in done.models], done.unfinished, nest.left()) == (["b"], [], "a")
    assert (await space.plan(Wish(quota=0))).short == 1000
    nest.busy = Busy(any_download=True)
    assert (await space.plan(Wish())).unfinished == []
    assert (nest.folder / "models/.incoming/half/half.gguf").exists()


@pytest.mark.blocking_ok
async def test_what_an_interrupted_prune_left_is_removed_and_links_are_not_followed(nest: Nest, tmp_path: Path) -> None:
    nest.unfinished(".gone-abc", 0)
    nest.unfinished("fresh", 0)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    os.utime(tmp_path / "outside/precious", (0, 0))
    incoming = nest.folder / "models/.incoming"
    (incoming / "link").symlink_to(tmp_path / "outside")
    space = nest.space()
    assert [one.key for one in (await space.carry_out(await space.plan(Wish()))).unfinished] == [".gone-abc"]
    assert sorted(path.name for path in incoming.iterdir()) == ["fresh", "link"]
    assert (tmp_path / "outside/precious").exists()


@pytest.mark.blocking_ok
async def test_torrents_are_left_while_a_record_cannot_be_read(nest: Nest) -> None:
    record = nest.add("a", 1000, 1)
    orphan = nest.torrent("e")
    (record.directory / METADATA).write_text("{")
    assert (await nest.space().plan(Wish())).torrents == []
    (record.directory / METADATA).unlink()
    assert (await nest.space().plan(Wish())).torrents == [orphan]


def test_a_pull_above_the_quota_is_refused_with_what_a_prune_would_free(nest: Nest) -> None:
    nest.add("a", 1000, 9)
    nest.add("b", 2000, 3)
    space = nest.space(quota_gb=4000 / 1e9)
    space.admit("new", 1000)
    with pytest.raises(NoSpace) as caught:
        space.admit("new", 1500)
    assert "new needs 1.5 kB, 1.0 kB of the quota of 4.0 kB are left" in caught.value.message
    assert caught.value.hint == "`hali prune --quota 2e-06` would free 1.0 kB: a:7b:base:q4_0"
    assert caught.value.details["prune"] == ["a" * 64]
    assert nest.left() == "ab"
    space.admit("b again", 2000, "b" * 64)  # a damaged one that comes again
    nest.usage.pin("a" * 64, True)
    nest.usage.pin("b" * 64, True)
    with pytest.raises(NoSpace) as caught:
        space.admit("new", 1500)
    assert "no prune can make that room" in str(caught.value.hint)


def test_room_is_kept_for_pulls_under_way_once_a_file_until_they_are_over(nest: Nest) -> None:
    nest.add("a", 1000, 9)
    space = nest.space(quota_gb=4000 / 1e9)
    with space.coming("first", 2000, "f"):
        with space.coming("the same by another name", 2000, "f"):
            space.admit("small", 1000)
        with pytest.raises(NoSpace) as caught, space.coming("second", 1500, "s"):
            pytest.fail("it was let in")
        assert "second needs 1.5 kB, 1.0 kB of the quota of 4.0 kB are left" in caught.value.message
        assert "would free 1.0 kB: a:7b:base:q4_0" in str(caught.value.hint)
        with pytest.raises(NoSpace, match="third"):
            space.admit("third", 2500)
    space.admit("third", 2500)


@pytest.mark.blocking_ok
async def test_what_engines_jobs_and_peers_use_is_busy(nest: Nest) -> None:
    for letter in "abc":
        nest.add(letter, 1000, 9)
    job = Job(JobSpec("pull", "x"))
    assert what_is_busy(nest.library.entries(), [], (), [job]) == Busy(any_download=True)
    job.update(Progress("downloading", "C-7B.Q4_0.gguf"))
    busy = what_is_busy(nest.library.entries(), [f"a:7b:base:q4_0@{'a' * 12}"], {"b" * 64}, [job])
    assert busy.models == {"a" * 64: "in memory", "b" * 64: "being sent", "c" * 64: "being fetched"}
    assert (busy.files, busy.any_download) == (frozenset({"C-7B.Q4_0.gguf"}), False)
    waiting = Job(JobSpec("pull", "x"), paused=True)  # what it will fetch nobody knows
    assert what_is_busy(nest.library.entries(), [], (), [waiting]).any_download
    job.pause(True)
    assert "c" * 64 in what_is_busy(nest.library.entries(), [], (), [job]).models


class Torrent:
    def __init__(self, letter: str, uploaded: int) -> None:
        self.infohashes = InfoHashes(v1=letter * 40)
        self.uploaded = uploaded


class Session:
    """A torrent session with counters that the test sets."""

    def __init__(self, *torrents: Torrent) -> None:
        self.torrents = torrents

    async def status(self) -> tuple[Torrent, ...]:
        return self.torrents


@pytest.mark.blocking_ok
async def test_what_others_fetch_counts_as_use_over_sessions_that_begin_at_nothing(nest: Nest) -> None:
    nest.add("a", 1000, 9)
    nest.add("b", 1000, 9)
    session: Session | None = Session(Torrent("a", 400), Torrent("b", 0), Torrent("e", 7))
    recorder = UsageRecorder(nest.usage, nest.library, lambda: session)
    await recorder.look()
    assert recorder.sending == {"a" * 64}
    assert (nest.usage.of("a" * 64).uploaded, nest.usage.of("a" * 64).last_used) == (400, NOW)
    assert (nest.usage.of("b" * 64).uploaded, nest.usage.of("b" * 64).last_used) == (0, NOW - 9 * DAY)
    await recorder.look()
    assert (recorder.sending, nest.usage.of("a" * 64).uploaded) == (frozenset(), 400)
    session = Session(Torrent("a", 300))  # restarted
    await recorder.look()
    assert nest.usage.of("a" * 64).uploaded == 700
    successor = UsageRecorder(nest.usage, nest.library, lambda: session)  # of one that failed
    await successor.begin()
    await successor.look()
    assert nest.usage.of("a" * 64).uploaded == 700
    session = None
    await recorder.look()
    assert recorder.sending == frozenset()


async def test_the_record_is_written_when_the_service_ends(tmp_path: Path) -> None:
    database = await anyio.to_thread.run_sync(Database, tmp_path / "d")
    library = Library(ModelStore(tmp_path / "models"), tmp_path, announce=lambda _: None)
    usage = await anyio.to_thread.run_sync(Usage, database)
    recorder = UsageRecorder(usage, library, lambda: None)
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: recorder.run(task_status=task_status))
        usage.used("a" * 64)
        group.cancel_scope.cancel()
    again = await anyio.to_thread.run_sync(Usage, database)
    assert again.of("a" * 64).last_used is not None
    await anyio.to_thread.run_sync(database.close)
