"""`hali hash`, as people and programs call it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import blake3
import libtorrent as lt
import pytest

from hali.hashing import available_backends
from hali.model.units import PIECE

LENGTH = 2 * PIECE + 12_345


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hash") / "model.gguf"
    path.write_bytes(blake3.blake3(b"hali hash command").digest(length=LENGTH))
    return path


def hali(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hali.cli", "hash", *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_digests_are_those_of_other_programs(home: Path, model: Path) -> None:
    found = told(hali(model, "--json"))
    made = lt.create_torrent([lt.create_file_entry(model.name, LENGTH)], PIECE)
    lt.set_piece_hashes(made, str(model.parent))
    hashes = lt.torrent_info(made.generate()).info_hashes()
    assert found["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert found["blake3"] == blake3.blake3(model.read_bytes()).hexdigest()
    assert (found["infohash_v1"], found["infohash_v2"]) == (str(hashes.v1), str(hashes.v2))
    assert (found["pieces"], found["bytes"], found["file"]) == (3, LENGTH, str(model))
    assert found["gb_per_s"] > 0 < found["seconds"]
    assert not home.exists(), "hashing a file needs no data directory"


@pytest.mark.parametrize("backend", available_backends())
def test_a_forced_backend_is_used_and_gives_the_same(home: Path, model: Path, backend: str) -> None:
    found = told(hali(model, "--json", "--threads", "1", HALI_HASH_BACKEND=backend))
    assert found["backend"].startswith(f"sha1={backend} sha256={backend} blake3=")
    assert found["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_people_read_the_same(home: Path, model: Path) -> None:
    lines = hali(model).stdout.splitlines()
    assert lines[0] == f"sha256      {hashlib.sha256(model.read_bytes()).hexdigest()}"
    assert lines[-1].startswith("3 pieces, 33.6 MB (33566777 bytes) in ")
    assert "GB/s), sha1=" in lines[-1]


def test_an_empty_file_has_digests_and_no_torrent(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    found = told(hali(tmp_path / "empty", "--json"))
    assert found["sha256"] == hashlib.sha256().hexdigest()
    assert (found["infohash_v1"], found["infohash_v2"], found["pieces"], found["gb_per_s"]) == (None, None, 0, None)


@pytest.mark.parametrize("name", ["a:b.gguf", "con", "ends with a space "])
def test_a_name_that_no_torrent_may_have_costs_only_the_infohashes(home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"abc")
    found = told(hali(tmp_path / name, "--json"))
    assert (found["sha256"], found["infohash_v1"]) == (hashlib.sha256(b"abc").hexdigest(), None)


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["nosuch"], {}, 3, "hali: cannot hash nosuch: No such file or directory\n"),
        (["."], {}, 1, "hali: cannot hash .: Is a directory\n"),
        (["x", "--threads", "-1"], {}, 2, "--threads"),
        ([__file__], {"HALI_HASH_BACKEND": "abacus"}, 78, 'hali: HALI_HASH_BACKEND is "abacus"; this processor has '),
    ],
)
def test_what_cannot_be_hashed_is_one_clear_line(
    home: Path, arguments: list[str], environment: dict[str, str], code: int, says: str
) -> None:
    done = hali(*arguments, **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr
