"""Commands around the store, with a daemon and without: list, info, verify, rm, pin, prune, export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hali.daemon.address import is_locked
from hali.store.models import METADATA
from tests.fakes.ollama_reader import listed
from tests.nodes import TestNode, flip, node, random_file, sha256_of
from tests.unit.export.stored import TALKING
from tests.unit.wire.gguf_files import gguf

CHAT = "tiny:1m:chat:q4_k_m"
SIZES = {"a-7b.q4_0.gguf": 1.0, "b-7b.q4_0.gguf": 2.0}


@contextmanager
def three_models(folder: Path, *, daemon: bool) -> Iterator[TestNode]:
    """A node with a chat model of a few hundred bytes and two files of 1 and 2 MiB; with a daemon or without."""
    with node(folder / "home") as made:
        made.env["OLLAMA_MODELS"] = str(folder / "ollama")
        made.start()
        (folder / "Tiny-1M-Chat.Q4_K_M.gguf").write_bytes(gguf(TALKING))
        made.add(folder / "Tiny-1M-Chat.Q4_K_M.gguf", copy=True)
        for seed, (name, size) in enumerate(SIZES.items()):
            made.add(random_file(folder / name, size, seed), copy=True)
        if not daemon:
            made.stop()
        yield made


@pytest.fixture(scope="module", params=["daemon", "none"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """For tests that change nothing in the store."""
    with three_models(tmp_path_factory.mktemp("shared"), daemon=request.param == "daemon") as made:
        yield made


@pytest.fixture
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestNode]:
    """For tests that change it; `@BOTH` runs them with a daemon and without, else there is one."""
    with three_models(tmp_path, daemon=getattr(request, "param", "daemon") == "daemon") as made:
        yield made


BOTH = pytest.mark.parametrize("one", ["daemon", "none"], indirect=True)
WITHOUT = pytest.mark.parametrize("one", ["none"], indirect=True)


def ids(of: TestNode) -> list[str]:
    return [model["model_id"] for model in of.ok("list")]


def by_id(of: TestNode) -> dict[str, dict[str, Any]]:
    return {model["model_id"]: model for model in of.ok("list")}


def test_a_list_for_programs_tells_everything_known_of_each_model(shared: TestNode) -> None:
    models = by_id(shared)
    assert list(models) == ["a:7b:base:q4_0", "b:7b:base:q4_0", CHAT]
    found = models[CHAT]
    assert found["sha256"] == sha256_of(Path(found["path"]))
    assert (found["files"], found["size"]) == (["Tiny-1M-Chat.Q4_K_M.gguf"], Path(found["path"]).stat().st_size)
    assert found["magnet"].startswith(
        f"magnet:?xt=urn:btih:{found['infohash_v1']}&xt=urn:btmh:1220{found['infohash_v2']}"
    )
    assert len(found["blake3"]) == 64 and found["sources"] == {"import": found["size"]}
    assert (found["pinned"], found["uploaded"], found["ratio"], found["last_used"]) == (False, 0, 0.0, None)
    assert found["state"] in ("seeding", "stored") and found["error"] is None


def test_info_tells_what_the_header_says_and_who_else_has_it(shared: TestNode) -> None:
    found = shared.ok("info", "tiny")
    assert found["gguf"] == {
        "architecture": "llama",
        "parameters": 0,
        "layers": 2,
        "context": 512,
        "embedding": None,
        "quantization": "Q4_K_M",
        "license": "mit",
        "chat_template": True,
    }
    known = found["state"] == "seeding"
    assert (found["lan_nodes"], found["peers"]) == ((0, 0) if known else (None, None))
    assert shared.ok("info", "a:7b")["gguf"] is None
    shown = shared.hali("info", "tiny").stdout
    assert "gguf          llama, 2 layers, context 512, Q4_K_M, 0.0 million parameters, chat template, mit\n" in shown


def test_one_damaged_record_harms_that_model_only_and_is_told(one: TestNode) -> None:
    broken = Path(by_id(one)["a:7b:base:q4_0"]["path"]).with_name(METADATA)
    broken.write_text('{"model_id": 7')
    if is_locked(one.paths):
        one.restart()
    done = one.hali("list")
    assert done.returncode == 0 and CHAT in done.stdout and "a:7b" not in done.stdout
    assert f"cannot be read and is left out: {broken}" in done.stderr
    assert one.ok("verify", "tiny")["verified"]
    assert one.ok("prune", "--dry-run")["torrents"] == []


@WITHOUT
def test_without_a_daemon_too_a_file_that_is_gone_or_changed_is_no_sound_model(one: TestNode) -> None:
    models = by_id(one)
    flip(Path(models["a:7b:base:q4_0"]["path"]), 99)
    Path(models["b:7b:base:q4_0"]["path"]).unlink()
    assert [model["state"] for model in by_id(one).values()] == ["unverified", "missing", "stored"]


@BOTH
def test_all_damaged_models_are_named_and_the_sound_ones_too(one: TestNode) -> None:
    models = by_id(one)
    flip(Path(models["a:7b:base:q4_0"]["path"]), 99)
    Path(models["b:7b:base:q4_0"]["path"]).unlink()
    done = one.hali("verify", "--all")
    assert done.returncode == 5
    first, second, third = done.stdout.splitlines()
    assert first.startswith("a:7b:base:q4_0 is damaged, wrong piece 0 of 1: ")
    assert second.startswith("b:7b:base:q4_0: its file is gone from ")
    assert third == f"{CHAT}: ok, 1 pieces, sha256 {models[CHAT]['sha256']}"
    assert done.stderr.splitlines()[-1].startswith(
        "hali: 2 of 3 models are damaged: a:7b:base:q4_0, b:7b:base:q4_0 — pull or add them again"
    )
    last = json.loads(one.hali("verify", "--all", "--json").stdout.splitlines()[-1])
    assert last["error"]["details"]["damaged"] == [
        models[name]["sha256"] for name in ("a:7b:base:q4_0", "b:7b:base:q4_0")
    ]


@WITHOUT
def test_several_are_deleted_at_once_or_none_when_a_name_is_wrong(one: TestNode) -> None:
    assert one.fails("rm", "a:7b", "nosuch", code=3).startswith("hali: no model 'nosuch'")
    assert len(ids(one)) == 3
    done = one.hali("rm", "a:7b", "b:7b", "a:7b:base:q4_0", "--json")
    removed = [(found["model_id"], found["freed"]) for found in map(json.loads, done.stdout.splitlines())]
    assert removed == [("a:7b:base:q4_0", 2**20), ("b:7b:base:q4_0", 2**21)]
    assert ids(one) == [CHAT]


@BOTH
def test_a_prune_takes_the_least_recently_used_and_never_a_pinned_one(one: TestNode) -> None:
    assert one.ok("pin", "a:7b")["pinned"] is True
    quota = str(1.2 * 1.048576 / 1000)  # GB: room for the pinned one
    dry = one.ok("prune", "--quota", quota, "--dry-run")
    assert {m["model_id"] for m in dry["models"]} >= {"b:7b:base:q4_0"} and len(ids(one)) == 3
    assert one.fails("prune", "--quota", quota, code=2).startswith("hali: nobody is there to be asked — --yes")
    real = one.ok("prune", "--quota", quota, "--yes")
    assert (real["models"], real["freed"]) == (dry["models"], dry["freed"])
    assert real["freed"] == real["removed"] >= 2**21
    assert "a:7b:base:q4_0" in ids(one) and "b:7b:base:q4_0" not in ids(one)
    done = one.hali("prune", "--quota", "0", "--yes")
    assert (done.returncode, ids(one)) == (6, ["a:7b:base:q4_0"])
    assert "hali: the models are still 1.0 MB above the quota" in done.stderr
    done = one.hali("prune", "--quota", "0", "--yes", "--json")
    error = json.loads(done.stdout)["error"]  # one object, not two
    assert (done.returncode, error["code"], error["details"]["dry_run"]) == (6, "no_space", False)
    assert error["details"]["short"] == error["details"]["used"] > 0
    assert one.ok("unpin", "a:7b")["pinned"] is False
    assert one.ok("prune", "--quota", "0", "--yes")["short"] == 0
    assert ids(one) == [] and list((one.paths.torrents).iterdir()) == []


def test_times_that_are_none_are_refused(shared: TestNode) -> None:
    assert shared.ok("prune", "--older-than", "30d", "--dry-run")["models"] == []
    for text in ("30", "d", "-1d", "1y"):
        assert "is no time" in shared.fails("prune", f"--older-than={text}", code=2)


def test_a_pull_above_the_quota_is_refused_with_the_command_that_helps(one: TestNode, tmp_path: Path) -> None:
    one.set(storage_quota_gb="0.0035")  # 3.5 MB; 3.15 MB are used
    with node(tmp_path / "b") as other:
        added = other.ok("add", str(random_file(tmp_path / "New-7B.Q4_0.gguf", 1.0, 9)))
        torrent = other.paths.torrents / f"{added['infohash_v1']}.torrent"
        one.restart()
        told = one.fails("pull", str(torrent), code=6)
    assert told.startswith("hali: New-7B.Q4_0.gguf needs 1.0 MB, 353.6 kB of the quota of 3.5 MB are left — ")
    assert "`hali prune --quota 0.002451` would free " in told and "7b:base:q4_0" in told
    assert len(ids(one)) == 3


def test_models_are_exported_and_once_more_changes_nothing(shared: TestNode, tmp_path: Path) -> None:
    shared.env["OLLAMA_MODELS"] = str(tmp_path / "ollama")
    first, again = shared.ok("export", "ollama", "tiny"), shared.ok("export", "ollama", "tiny")
    assert (first["changed"], again["changed"], again["how"]) == (True, False, "kept")
    assert first["how"] in ("link", "reflink") and first["template"] == "chatml"
    assert list(listed(tmp_path / "ollama")) == [first["name"]] == ["tiny:1m-chat-q4_k_m"]
    assert shared.hali("export", "ollama", "tiny").stdout == f"{CHAT}  is there already as tiny:1m-chat-q4_k_m\n"
    done = shared.ok("export", "lmstudio", "tiny", "--dir", str(tmp_path / "other"))
    assert done["path"] == str(tmp_path / "other/hali/tiny-1m-chat/Tiny-1M-Chat.Q4_K_M.gguf")


def test_exporting_all_goes_on_after_one_that_cannot_be(shared: TestNode, tmp_path: Path) -> None:
    shared.env["OLLAMA_MODELS"] = str(tmp_path / "ollama")
    done = shared.hali("export", "ollama", "--all")
    assert done.returncode == 7  # the two files of random bytes are no GGUF
    assert done.stdout == f"{CHAT}  linked as tiny:1m-chat-q4_k_m, chat format chatml\n"
    assert len([line for line in done.stderr.splitlines() if "not a GGUF file" in line]) == 2
    assert list(listed(tmp_path / "ollama")) == ["tiny:1m-chat-q4_k_m"]
    assert shared.fails("export", "ollama", code=2).startswith("hali: give a model or --all")


@WITHOUT
def test_a_damaged_model_is_not_exported(one: TestNode, tmp_path: Path) -> None:
    path = Path(by_id(one)[CHAT]["path"])
    flip(path, path.stat().st_size - 1)
    one.hali("verify", "tiny")
    assert one.fails("export", "ollama", "tiny", code=7).startswith(f"hali: {CHAT} is ")
    assert not (tmp_path / "ollama").exists()


def test_a_target_that_is_no_folder_or_leads_elsewhere_is_refused_in_one_line(shared: TestNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert shared.fails("export", "ollama", "tiny", "--dir", str(tmp_path / "file"), code=1).count("\n") == 0
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap/manifests").symlink_to(tmp_path)
    told = shared.fails("export", "ollama", "tiny", "--dir", str(tmp_path / "trap"), code=7)
    assert "is a symbolic link" in told and not (tmp_path / "registry.ollama.ai").exists()
    assert "is not known" in shared.fails("export", "lmstudio", "tiny", "--dir", "~no.such.user/x", code=2)
    for name in ("../x", "a/b", ".hidden"):
        assert "no name for Ollama" in shared.fails("export", "ollama", "tiny", "--as", name, code=2)
