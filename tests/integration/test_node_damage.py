"""With real daemons: what is not what it was is named by its piece, and neither seeded nor served."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from hali.model.errors import VerificationFailed
from hali.model.units import PIECE
from tests.fakes.corrupt_peer import CorruptPeer
from tests.nodes import MIB, TestNode, flip, node, pair, random_file, sha256_of, until

ID = "hurt:1b:base:q8_0"
AT = 16 * MIB + 5  # in piece 1


def add(each: TestNode, folder: Path, name: str = "Hurt-1B-Q8_0.gguf", seed: int = 1) -> dict[str, Any]:
    """A model of 3 pieces; the store has a copy, so that hurting it does not hurt the file it came from."""
    return each.add(random_file(folder / name, 36, seed), copy=True)


def damage(path: Path, *, same_time: bool) -> None:
    """One wrong byte; with `same_time` as a failing disk does it: nothing else tells."""
    before = path.stat()
    flip(path, AT)
    if same_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def served(each: TestNode) -> list[str]:
    """Model ids of GET /v1/models."""
    answer = httpx.get(f"{each.status()['http']}/v1/models", timeout=30, trust_env=False)
    return [model["id"] for model in answer.json()["data"]]


def chat(each: TestNode, model: str) -> httpx.Response:
    """A chat request."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{each.status()['http']}/v1/chat/completions", json=body, timeout=30, trust_env=False)


def assert_names_the_piece(each: TestNode, command: tuple[str, ...] = ("verify", ID)) -> None:
    line = each.fails(*command, code=5, told_before=True)
    assert "is damaged, wrong piece 1 of 3" in line
    error = json.loads(each.hali(*command, "--json").stdout.splitlines()[-1])["error"]
    assert (error["code"], error["details"]["pieces"]) == ("verification", [1])


def test_a_flipped_byte_is_named_by_its_piece_and_the_model_is_given_up(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        other = add(a, tmp_path, "Sound-1B-Q8_0.gguf", seed=2)
        added = add(a, tmp_path)
        b.hears(ID)
        assert served(a) == [ID, other["model_id"]]
        damage(Path(added["path"]), same_time=True)
        assert_names_the_piece(a)
        assert a.state_of(ID) == "damaged"
        assert a.call("info", model=ID)["error"]
        assert served(a) == [other["model_id"]]
        answer = chat(a, ID)
        assert 400 <= answer.status_code < 500 and "damaged" in answer.json()["error"]["message"]
        for command in (("run", ID, "hi"), ("load", ID), ("bench", ID)):
            assert f"{ID} is damaged" in a.fails(*command, code=7)
        assert "damaged" in a.fails("handoff", "transmission", ID, code=7)
        until(lambda: ID not in [row["model_id"] for row in b.status()["lan"]], "the neighbour no longer hears of it")
        b.fails("pull", ID, code=3)
        # The other model is unharmed, and damage is not forgotten with the daemon.
        for state in ("running", "restarted"):
            until(lambda: a.state_of(other["model_id"]) == "seeding", f"the other is seeded by the {state} daemon")
            assert a.call("verify", model=other["model_id"])["verified"] is True
            if state == "running":
                a.kill()
                a.start()
        until(lambda: a.state_of(ID) == "damaged", "the restarted node knows of the damage")
        assert b.pull(other["model_id"])["sha256"] == other["sha256"]


def test_damage_is_named_without_a_daemon_and_remembered_by_the_next_one(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        added = add(a, tmp_path)
        a.stop()
        damage(Path(added["path"]), same_time=True)
        assert_names_the_piece(a)
        every = a.hali("verify", "--all")
        assert (every.returncode, "wrong piece 1 of 3" in every.stdout) == (5, True)
        assert f"hali: 1 of 1 models are damaged: {ID} — " in every.stderr
        a.start()
        until(lambda: a.state_of(ID) == "damaged", "the daemon verified before it seeded")
        assert served(a) == []


def change_one_byte(path: Path) -> None:
    flip(path, AT)


def cut(path: Path) -> None:
    os.truncate(path, 20 * MIB)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    ("change", "says"), [(change_one_byte, "wrong piece 1"), (cut, "wrong pieces 1, 2"), (grow, "37748740 bytes")]
)
def test_a_file_that_changed_while_the_daemon_was_away_is_verified_before_it_is_seeded(
    change: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    with node(tmp_path / "a") as a:
        added = add(a, tmp_path)
        a.kill()
        change(Path(added["path"]))
        before = len(a.events("library.verified"))
        a.start()
        until(lambda: a.state_of(ID) == "damaged", "it is found damaged")
        assert says in a.call("info", model=ID)["error"]
        assert len(a.events("library.verified")) == before
        assert a.call("stats")["models"][0]["up_rate"] == 0


def test_a_file_that_was_only_touched_is_verified_once_and_seeded_again(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        added = add(a, tmp_path)
        a.stop()
        os.utime(added["path"])
        a.start()
        until(lambda: a.state_of(ID) == "seeding", "it is seeded again")
        assert len(a.events("library.verified")) == 1
        a.restart()
        until(lambda: a.state_of(ID) == "seeding", "it is seeded again")
        assert len(a.events("library.verified")) == 1


def test_a_file_that_is_gone_is_missing_and_the_rest_goes_on(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        other = add(a, tmp_path, "Sound-1B-Q8_0.gguf", seed=2)
        added = add(a, tmp_path)
        a.stop()
        Path(added["path"]).unlink()
        a.start()
        until(lambda: a.state_of(ID) == "missing", "the loss is noticed")
        until(lambda: a.state_of(other["model_id"]) == "seeding", "the other is seeded")
        a.fails("verify", ID, code=3)
        a.call("rm", model=ID)
        assert a.state_of(ID) is None
        Path(other["path"]).unlink()
        assert [model["state"] for model in a.call("models")["models"]] == ["missing"]


def test_a_damaged_metadata_file_harms_its_model_only(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        other = add(a, tmp_path, "Sound-1B-Q8_0.gguf", seed=2)
        added = add(a, tmp_path)
        a.stop()
        Path(added["path"]).with_name("metadata.json").write_bytes(b"\x00garbage")
        a.start()
        assert [row["model_id"] for row in a.status()["seeding"]] == [other["model_id"]]
        again = add(a, tmp_path)  # as the log's hint says
        assert (again["from_store"], again["sha256"], again["state"]) == (False, added["sha256"], "seeding")


@pytest.mark.parametrize("by", ["pull", "add under another name"])
def test_a_damaged_model_is_made_whole_by_pulling_or_adding_it_again(by: str, tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        added = add(a, tmp_path)
        b.hears(ID)
        pulled = b.pull(ID)
        damage(Path(pulled["path"]), same_time=False)
        with pytest.raises(VerificationFailed):
            b.call("verify", model=ID)
        name = "Renamed-1B-Q8_0.gguf" if by == "add under another name" else "Hurt-1B-Q8_0.gguf"
        again = b.pull(ID) if by == "pull" else add(b, tmp_path, name)
        assert (again["state"], again["sha256"], again["from_store"]) == ("seeding", added["sha256"], False)
        assert sha256_of(Path(again["path"])) == added["sha256"]
        b.restart()
        until(lambda: [row["status"] for row in b.status()["seeding"]] == ["seeding"], "it is seeded")
        assert b.call("verify", model=again["model_id"])["verified"] is True
        assert [path.name for path in b.paths.models().glob("*/*/*/*") if path.suffix == ".gguf"] == [name]
        assert not list((b.paths.models() / ".incoming").iterdir())
        assert served(b) == [again["model_id"]]


def test_a_peer_that_asks_gets_nothing_of_a_file_that_changed_under_a_running_daemon(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        added = add(a, tmp_path)
        b.hears(ID)
        damage(Path(added["path"]), same_time=True)
        puller = b.start_hali("pull", ID, "--json")
        until(lambda: a.state_of(ID) == "damaged", "libtorrent's own check of what it sends found it")
        assert a.events("library.damaged")
        assert served(a) == []
        add(a, tmp_path)  # made whole again: the pull that waits goes on
        out, err = puller.communicate(timeout=90)
        assert puller.returncode == 0, (out, err, b.log())
        assert json.loads(out.splitlines()[-1])["sha256"] == added["sha256"]


def test_a_file_that_changed_or_became_a_pipe_under_a_running_daemon_is_not_loaded(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        path = Path(add(a, tmp_path)["path"])
        damage(path, same_time=False)
        assert "changed since it was verified" in a.fails("run", ID, "hi", code=7)
        assert chat(a, ID).status_code == 403
        path.unlink()
        os.mkfifo(path)
        assert a.ok("info", ID)["gguf"] is None
        assert "not a regular file" in a.fails("export", "ollama", ID, "--dir", str(tmp_path / "o"), code=7)


@pytest.mark.blocking_ok
async def test_a_peer_that_sends_wrong_pieces_is_banned_and_the_pull_ends_right(tmp_path: Path) -> None:
    content = random_file(tmp_path / "Hurt-1B-Q8_0.gguf", 34).read_bytes()
    with node(tmp_path / "a") as a, node(tmp_path / "b") as b:
        # Keeps the honest node from being done before the attacker is connected, and found out.
        a.ok("config", "set", "max_upload_mbps", "40")
        a.start()
        port = b.start()["torrent_port"]
        added = a.add(tmp_path / "Hurt-1B-Q8_0.gguf")
        b.hears(ID)
        attacker = CorruptPeer(added["infohash_v1"], content, PIECE)

        def lift_the_cap() -> None:
            until(lambda: b.events("peer.banned"), "the attacker is banned")
            a.ok("config", "set", "max_upload_mbps", "0")

        async with anyio.create_task_group() as group:
            group.start_soon(attacker.attack, "127.0.0.1", port)
            group.start_soon(anyio.to_thread.run_sync, lift_the_cap)
            pulled = await anyio.to_thread.run_sync(b.pull, ID)
            group.cancel_scope.cancel()
        assert attacker.served
        assert (pulled["sha256"], pulled["state"]) == (added["sha256"], "seeding")
        assert sha256_of(Path(pulled["path"])) == added["sha256"]
        assert {event["peer"] for event in b.events("peer.banned")} == {attacker.address}
