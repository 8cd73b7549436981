"""Full and read-only disks with real daemons: one clear line, the right exit code, nothing half-written, and it goes on afterwards."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hali.model.units import piece_span
from tests.fakes.hf_server import FakeHub
from tests.nodes import MIB, TestNode, node, random_file, sha256_of, until

NAME = "Large-7B-Q4_0.gguf"
REPO = "owner/Large-7B-GGUF"
ROOM = 200  # MiB of the small disk
RESERVED = 64  # MiB that hali leaves free


@contextmanager
def small_disk(folder: Path, options: str = "") -> Iterator[Path]:
    """A file system of its own of `ROOM` MiB; needs root, which is why these tests say so aloud when they are skipped."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m{options}", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(
            f"NOT TESTED: a full disk, because mounting a tmpfs needs root here: {made.stderr.decode().strip()}"
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_file(tmp_path_factory.mktemp("files") / NAME, 110)


def fill(disk: Path, *, leave_mib: int) -> Path:
    """Somebody else takes the space; what a pull takes at the same time is not theirs to leave."""
    info = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as out:
        for _ in range(info.f_bavail * info.f_bsize // MIB - leave_mib):
            try:
                out.write(bytes(MIB))
            except OSError as exc:
                assert exc.errno == errno.ENOSPC
                break
    return filler


def assert_nothing_stored(each: TestNode, disk: Path) -> None:
    assert each.call("models")["models"] == [] and each.status()["jobs"] == []
    assert {path.name for path in disk.iterdir()} <= {".incoming", "filler"}


@pytest.mark.parametrize("way", ["pull", "add"])
def test_what_cannot_fit_is_refused_before_the_first_byte(way: str, file: Path, disk: Path, tmp_path: Path) -> None:
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", models_dir=str(disk), hf_endpoint=hub.url) as a:
        hub.add(REPO, {NAME: file})
        a.start()
        filler = fill(disk, leave_mib=RESERVED + 100)
        command = ("pull", REPO) if way == "pull" else ("add", str(file))
        line = a.fails(*command, code=6, told_before=True)
        assert NAME in line and "free" in line
        assert hub.bytes_sent <= len(hub.requests)
        assert_nothing_stored(a, disk)
        filler.unlink()
        assert a.ok(*command)["sha256"] == sha256_of(file)


@pytest.mark.parametrize("way", ["hub", "torrent"])
def test_a_disk_that_gets_full_on_the_way_keeps_what_came_and_goes_on_later(
    way: str, file: Path, disk: Path, tmp_path: Path
) -> None:
    with (
        FakeHub() as hub,
        node(tmp_path / "a", models_dir=str(disk), hf_endpoint=hub.url, hf_connections="1") as a,
        node(tmp_path / "b", max_upload_mbps="160") as b,
    ):
        hub.add(REPO, {NAME: file})
        hub.faults.rate = 20_000_000
        a.start()
        what = REPO
        if way == "torrent":
            what = b.add(file)["model_id"]
            a.hears(what)
        pulling = a.start_hali("pull", what)
        until(a.on_record, "the first piece is on record")
        filler = fill(disk, leave_mib=20)
        _, err = pulling.communicate(timeout=90)
        assert pulling.returncode == 6, (err, a.log())
        assert "goes on where it stopped" in err.splitlines()[-1]
        known = a.on_record()
        assert known
        assert_nothing_stored(a, disk)
        filler.unlink()
        hub.faults.rate = None
        pulled = a.pull(what)
        assert (pulled["sha256"], pulled["state"]) == (sha256_of(file), "seeding")
        assert sha256_of(Path(pulled["path"])) == pulled["sha256"]
        assert a.events("incoming.opened")[-1]["known"] == len(known)
        assert not list((disk / ".incoming").iterdir())


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_disk_that_takes_so_many_pieces_keeps_only_what_is_on_it(
    pieces: int, file: Path, disk: Path, tmp_path: Path
) -> None:
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", models_dir=str(disk), hf_endpoint=hub.url) as a:
        hub.add(REPO, {NAME: file})
        hub.faults.gate = threading.Event()
        a.start()
        pulling = a.start_hali("pull", REPO)
        until(lambda: hub.cdn_requests > 1, "there was room, and the first piece is asked for")
        filler = fill(disk, leave_mib=16 * pieces + 8)
        hub.faults.gate.set()
        _, err = pulling.communicate(timeout=90)
        assert pulling.returncode == 6, (err, a.log())
        assert [line for line in err.splitlines() if line.startswith("hali: ")] == err.splitlines()[-1:]
        known = a.on_record()
        assert len(known) <= pieces
        assert_nothing_stored(a, disk)
        with (a.incoming() / NAME).open("rb") as half, file.open("rb") as whole:
            for index in known:
                for each in (half, whole):
                    each.seek(16 * MIB * index)
                assert half.read(16 * MIB) == whole.read(16 * MIB)
        filler.unlink()
        hub.requests.clear()
        assert a.pull(REPO)["sha256"] == sha256_of(file)
        size = file.stat().st_size
        assert hub.bytes_sent <= size + 1 - sum(piece_span(index, size)[1] for index in known)


def test_a_read_only_models_folder_is_a_clear_error_and_reading_goes_on(tmp_path: Path) -> None:
    small = random_file(tmp_path / "Small-1B-Q8_0.gguf", 1)
    with (
        FakeHub() as hub,
        small_disk(tmp_path / "disk") as disk,
        node(tmp_path / "a", models_dir=str(disk), hf_endpoint=hub.url) as a,
    ):
        hub.add(REPO, {NAME: small})
        other = a.add(random_file(tmp_path / "Here-1B-Q8_0.gguf", 1, seed=2))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for command in (("add", str(small)), ("pull", REPO)):
            line = a.fails(*command, code=1, told_before=True)
            assert "Read-only file system" in line and str(disk) in line
        assert a.state_of(other["sha256"]) == "seeding"
        assert a.call("verify", model=other["sha256"])["verified"] is True
        a.restart()
        until(lambda: a.state_of(other["sha256"]) == "seeding", "it is seeded from the read-only disk")
        assert a.status()["jobs"] == []


def test_a_models_folder_that_is_not_there_any_more_harms_nothing_else(tmp_path: Path) -> None:
    """A disk that is not mounted: its models are gone for now, and come back with it."""
    with node(tmp_path / "a", models_dir=str(tmp_path / "disk")) as a:
        added = a.add(random_file(tmp_path / "Away-1B-Q8_0.gguf", 1))
        a.stop()
        (tmp_path / "disk").rename(tmp_path / "away")
        assert a.start()["seeding"] == []
        assert a.call("models")["models"] == []
        a.stop()
        if (tmp_path / "disk").exists():
            subprocess.run(["rm", "-r", str(tmp_path / "disk")], check=True)
        (tmp_path / "away").rename(tmp_path / "disk")
        a.start()
        until(lambda: a.state_of(added["sha256"]) == "seeding", "it is seeded again")


JUMPS = """
import time
_time, _gmtime, _calls = time.time, time.gmtime, [0]
def jumping():
    _calls[0] += 1
    return _time() + (-315_000_000, 0, 315_000_000, -3600)[_calls[0] % 4]
time.time, time.time_ns = jumping, lambda: int(jumping() * 1e9)
time.gmtime = lambda seconds=None: _gmtime(jumping() if seconds is None else seconds)
"""


def test_a_clock_that_jumps_by_years_harms_no_pull_and_no_restart(tmp_path: Path) -> None:
    """Every look at the wall clock tells another year; what lasts is measured by another clock."""
    (tmp_path / "jumps").mkdir()
    (tmp_path / "jumps" / "sitecustomize.py").write_text(JUMPS)
    file = random_file(tmp_path / "files" / NAME, 20)
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", hf_endpoint=hub.url) as a:
        a.env["PYTHONPATH"] = f"{tmp_path / 'jumps'}{os.pathsep}{a.env.get('PYTHONPATH', '')}"
        hub.add(REPO, {NAME: file})
        hub.faults.busy, hub.faults.retry_after = 2, "Thu, 01 Jan 2026 12:00:30 GMT"
        hub.faults.token_uses = 2
        a.start()
        pulled = a.ok("pull", REPO)
        assert (pulled["sha256"], pulled["state"]) == (sha256_of(file), "seeding")
        assert 0 <= pulled["seeding_after_s"] <= pulled["seconds"] < 600
        years = {line["ts"][:4] for line in map(json.loads, (a.paths.logs / "hali.log").read_text().splitlines())}
        assert len(years) > 1  # it did jump
        a.kill()
        a.start()
        until(lambda: a.state_of(pulled["sha256"]) == "seeding", "it is seeded again")
        assert a.status()["uptime_s"] >= 0


def test_a_home_that_cannot_be_written_is_one_line_for_every_command_and_can_be_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, node(disk / "home") as a:
        model = a.add(random_file(tmp_path / "Here-1B-Q8_0.gguf", 1))["model_id"]
        a.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert [each["model_id"] for each in a.ok("list")] == [model]
        for command in (("daemon", "start"), ("config", "set", "debug", "true"), ("rm", "--yes", model)):
            assert "Read-only file system" in a.fails(*command, code=7)
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with fill(disk, leave_mib=0).open("ab", buffering=0) as last, suppress(OSError):
            while True:
                last.write(bytes(4096))
        for command in (("daemon", "start"), ("config", "set", "debug", "true")):
            assert "free some space" in a.fails(*command, code=6)


def test_what_rm_says_is_free_again_was_there(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        model = a.add(random_file(tmp_path / "Gone-1B-Q8_0.gguf", 1))
        Path(model["path"]).unlink()
        assert a.ok("rm", "--yes", model["model_id"])["freed"] == 0
