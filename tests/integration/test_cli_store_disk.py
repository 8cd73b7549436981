"""Commands around the store on disks that are full or cannot be written, and models that are in use."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hali.export.ollama import MANIFESTS
from tests.integration.test_node_disk import fill, small_disk
from tests.nodes import TestNode, node, random_file, sha256_of

ID = "smollm2:135m:instruct:q4_1"


def with_model(one: TestNode, file: Path) -> None:
    """A model in the store, and no daemon."""
    one.add(file)
    one.stop()


def test_another_disk_gets_a_copy_whole_or_nothing(tmp_path: Path, smollm2: Path) -> None:
    with node(tmp_path / "home") as one, small_disk(tmp_path / "disk") as disk:
        with_model(one, smollm2)
        filler = fill(disk, leave_mib=50)
        told = one.fails("export", "ollama", ID, "--dir", str(disk / "o"), code=6)
        assert "must be copied to another file system: it needs 98.4 MB, 52." in told
        assert [path for path in disk.rglob("*") if path.is_file()] == [filler]
        filler.unlink()
        done = one.hali("export", "ollama", ID, "--dir", str(disk / "o"))
        assert done.stdout.startswith(f"{ID}  copied (98.4 MB: the folder is on another file system")
        (blob,) = (disk / "o/blobs").glob("sha256-*28110db53")
        assert blob.name == f"sha256-{sha256_of(blob)}"
        assert one.ok("export", "ollama", ID, "--dir", str(disk / "o"))["how"] == "kept"


def test_a_disk_that_cannot_be_written_is_left_as_it_is(tmp_path: Path, smollm2: Path) -> None:
    with node(tmp_path / "home") as one, small_disk(tmp_path / "disk") as disk:
        with_model(one, smollm2)
        (disk / "o" / MANIFESTS).mkdir(parents=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for target in ("ollama", "lmstudio"):
            told = one.fails("export", target, ID, "--dir", str(disk / "o"), code=7)
            assert "is on a read-only file system — give a folder that can be written with --dir" in told


def test_a_store_that_cannot_be_written_keeps_its_models(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, node(tmp_path / "home", models_dir=str(disk)) as one:
        one.add(random_file(tmp_path / "a-7b.q4_0.gguf", 1), copy=True)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for args in (("rm", "a:7b"), ("prune", "--quota", "0", "--yes")):
            told = one.fails(*args, code=7)
            assert told.startswith("hali: cannot delete a:7b:base:q4_0: Read-only file system: ")
            assert [(m["model_id"], m["state"]) for m in one.ok("list")] == [("a:7b:base:q4_0", "seeding")]
        one.stop()
        assert one.fails("rm", "a:7b", code=7).startswith("hali: cannot delete a:7b:base:q4_0: Read-only")


@pytest.mark.model
def test_a_model_in_memory_is_kept_and_running_it_is_a_use(tmp_path: Path, smollm2: Path) -> None:
    with node(tmp_path / "home") as one:
        one.add(smollm2)
        assert one.ok("info", ID)["last_used"] is None
        one.ok("run", ID, "hi", "--max-tokens", "1")
        used = one.ok("info", ID)["last_used"]
        assert used is not None
        assert one.hali("prune", "--quota", "0", "--yes").returncode == 6
        assert one.ok("info", ID)["state"] == "seeding"
        one.restart()  # nothing is in memory now, and the use is remembered
        assert one.ok("info", ID)["last_used"] == used
        assert one.ok("prune", "--quota", "0", "--yes")["models"][0]["last_used"] == used
        assert one.ok("list") == []


def test_what_others_fetched_is_counted_over_restarts(tmp_path: Path) -> None:
    file = random_file(tmp_path / "Shared-7B.Q4_0.gguf", 4)
    with node(tmp_path / "a") as a, node(tmp_path / "b") as b:
        magnet = a.add(file)["magnet"]
        port = a.status()["torrent_port"]
        b.pull(f"{magnet}&x.pe=127.0.0.1:{port}")
        a.stop()
        found = a.ok("info", "shared:7b")
        assert found["uploaded"] >= file.stat().st_size and found["ratio"] >= 1.0
        assert found["last_used"] is not None
        assert "uploaded      4." in a.hali("info", "shared:7b").stdout


def test_the_unfinished_download_of_a_pull_under_way_is_not_pruned(tmp_path: Path) -> None:
    file = random_file(tmp_path / "Slow-7B.Q4_0.gguf", 40)
    with node(tmp_path / "a", max_upload_mbps="8") as a, node(tmp_path / "b") as b:
        magnet = a.add(file)["magnet"]
        port = a.status()["torrent_port"]
        b.start()
        pull = b.start_hali("pull", f"{magnet}&x.pe=127.0.0.1:{port}", "--json")
        assert pull.stdout is not None
        while '"downloading"' not in pull.stdout.readline():
            assert pull.poll() is None
        for_all = ("prune", "--unfinished-after", "0m", "--yes")
        assert b.ok(*for_all)["unfinished"] == []
        assert b.incoming().exists()
        pull.kill()  # the job goes on without its watcher
        b.kill()
        pull.communicate()
        (one,) = b.ok(*for_all)["unfinished"]  # without a daemon nobody works on it
        assert "Slow-7B.Q4_0.gguf" in one["files"]
        assert list((b.paths.models() / ".incoming").iterdir()) == []
        shutil.rmtree(b.paths.home)
