"""With real daemons: add, hear, pull, verify, answer from the store; names, duplicates and words for what cannot be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes import TestNode, node, pair, random_file, sha256_of

NAME = "Tiny-7B-Instruct-Q4_K_M.gguf"
ID = "tiny:7b:instruct:q4_k_m"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_file(tmp_path_factory.mktemp("files") / NAME, 70.5)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestNode, TestNode]]:
    with pair(tmp_path_factory.mktemp("nodes")) as both:
        yield both


def test_a_model_goes_from_one_node_to_another_and_both_seed_it(
    smollm2: Path, nodes: tuple[TestNode, TestNode]
) -> None:
    a, b = nodes
    added = a.ok("add", str(smollm2))
    assert added["sha256"] == sha256_of(smollm2)
    assert (added["ok"], added["state"], added["from_store"]) == (True, "seeding", False)
    b.hears(added["model_id"])
    pulled = b.ok("pull", added["model_id"])
    same = ("sha256", "blake3", "infohash_v1", "infohash_v2", "magnet", "size", "model_id", "files")
    assert {key: pulled[key] for key in same} == {key: added[key] for key in same}
    assert (pulled["state"], pulled["sources"]) == ("seeding", {"lan": smollm2.stat().st_size})
    assert sha256_of(Path(pulled["path"])) == added["sha256"]
    for each in nodes:
        assert each.state_of(added["model_id"]) == "seeding"
        assert each.ok("daemon", "status")["seeding"][0]["magnet"] == added["magnet"]
        checked = each.ok("verify", added["model_id"])
        assert (checked["verified"], checked["sha256"], checked["pieces"]) == (True, added["sha256"], 6)
        assert each.state_of(added["model_id"]) == "seeding"


def test_every_event_of_a_pull_is_one_json_line(file: Path, tmp_path: Path, nodes: tuple[TestNode, TestNode]) -> None:
    a, b = nodes
    model = a.ok("add", str(random_file(tmp_path / "Lines-3B-Q8_0.gguf", 20, seed=7)))["model_id"]
    b.hears(model)
    lines = [json.loads(line) for line in b.hali("pull", model, "--json").stdout.splitlines()]
    assert [line["event"] for line in lines[:-1]] == ["progress"] * (len(lines) - 1)
    assert (lines[-1]["event"], lines[-1]["state"]) == ("done", "seeding")
    states = [line["state"] for line in lines[:-1]]
    order = ["queued", "resolving", "connecting", "downloading", "seeding"]
    assert sorted(states, key=order.index) == states  # none comes late
    assert {"resolving", "downloading", "seeding"} <= set(states)


def test_a_second_pull_is_answered_from_the_store_without_network_or_hashing(
    file: Path, nodes: tuple[TestNode, TestNode]
) -> None:
    a, b = nodes
    added = a.ok("add", str(file))
    b.hears(ID)
    b.ok("pull", ID)
    torrent = b.paths.torrents / f"{added['infohash_v1']}.torrent"
    work = {"incoming.opened", "library.adopted", "library.verified"}
    before = {event: len(b.events(event)) for event in work}
    assert before["incoming.opened"] and before["library.adopted"]
    down, up = b.call("stats")["down_total"], a.call("stats")["up_total"]
    same_model = [ID, "tiny", "tiny:7b", added["sha256"], added["sha256"][:12], added["infohash_v1"], NAME]
    for name in [*same_model, added["infohash_v2"], added["magnet"], str(torrent), ID.upper()]:
        again = b.pull(name)
        assert (again["from_store"], again["sha256"], again["state"]) == (True, added["sha256"], "seeding"), name
    assert {event: len(b.events(event)) for event in work} == before
    assert (b.call("stats")["down_total"], a.call("stats")["up_total"]) == (down, up)


def test_a_name_means_on_the_lan_what_it_means_in_the_store(file: Path, nodes: tuple[TestNode, TestNode]) -> None:
    a, b = nodes
    a.ok("add", str(file))
    b.hears(ID)
    assert f"on the LAN is {ID}" in b.fails(
        "pull", "7b:instruct:q4", code=3
    )  # the end of a longer word may be another model
    assert b.ok("pull", "tiny:instruct")["from_store"] is True


def test_the_same_file_added_twice_is_one_model(file: Path, tmp_path: Path, nodes: tuple[TestNode, TestNode]) -> None:
    a, _ = nodes
    first = a.ok("add", str(file))
    copy = tmp_path / "Renamed-1B-Q8_0.gguf"
    copy.write_bytes(file.read_bytes())
    for again in (a.ok("add", str(file)), a.ok("add", str(copy)), a.ok("add", str(file), "--copy")):
        assert (again["from_store"], again["model_id"], again["path"]) == (True, first["model_id"], first["path"])
    assert [m["model_id"] for m in a.ok("list")].count(ID) == 1
    assert not list((a.paths.models() / ".incoming").iterdir())
    assert sha256_of(file) == sha256_of(copy) == first["sha256"]


def test_two_files_of_one_name_are_listed_and_asked_about(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        files = [random_file(tmp_path / str(seed) / "Twin-1B-Q8_0.gguf", 1, seed) for seed in (1, 2)]
        first, second = (a.ok("add", str(each)) for each in files)
        assert first["model_id"] == second["model_id"]
        assert first["path"] != second["path"]
        b.hears(first["model_id"])
        for each, command in ((a, "info"), (a, "verify"), (a, "rm"), (b, "pull")):
            done = each.hali(command, "twin")
            assert done.returncode == 2, done
            assert done.stderr.splitlines()[0].startswith("hali: 'twin' fits 2 models")
            choices = done.stderr.splitlines()[1:]
            assert sorted(line[: len("  twin:1b:base:q8_0 (sha256 ") + 12] for line in choices) == sorted(
                f"  twin:1b:base:q8_0 (sha256 {m['sha256'][:12]}" for m in (first, second)
            )
            error = json.loads(each.hali(command, "twin", "--json").stdout.splitlines()[-1])["error"]
            assert (error["code"], len(error["details"]["choices"])) == ("ambiguous", 2)
        assert b.ok("pull", second["sha256"])["sha256"] == second["sha256"]
        assert sha256_of(Path(b.ok("info", "twin")["path"])) == sha256_of(files[1])
        a.ok("rm", second["sha256"][:12])
        assert a.ok("info", "twin")["sha256"] == first["sha256"]


def test_list_info_verify_and_rm_say_the_same_with_and_without_a_daemon(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        for seed, name in enumerate(("One-1B-Q8_0.gguf", "Two-2B-Q4_0.gguf", "weights.bin")):
            a.add(random_file(tmp_path / name, 17, seed))
        running = a.ok("list")
        assert [m["model_id"] for m in running] == [
            "one:1b:base:q8_0",
            "two:2b:base:q4_0",
            "weights.bin:unknown:base:unknown",
        ]
        answers = {command: a.ok(command, "two") for command in ("info", "verify")}
        a.stop()
        # The v1 torrent beside a model is made by the daemon, some time after the model is there.
        assert [m | {"state": "seeding"} for m in a.ok("list")] == [m | {"magnet_v1": None} for m in running]
        known_by_a_daemon = {"state": "seeding", "lan_nodes": 0, "peers": 0, "magnet_v1": answers["info"]["magnet_v1"]}
        assert a.ok("info", "two") | known_by_a_daemon == answers["info"]
        assert a.ok("verify", "two") == answers["verify"]
        removed = a.ok("rm", "two")
        assert (removed["model_id"], removed["freed"]) == ("two:2b:base:q4_0", 0)  # the user's own name keeps the bytes
        assert not Path(answers["info"]["path"]).exists()
        assert [m["model_id"] for m in a.ok("list")] == [running[0]["model_id"], running[2]["model_id"]]
        a.start()
        a.ok("rm", "weights.bin")
        assert (tmp_path / "weights.bin").exists()  # the user's own file is not hali's to delete
        assert [row["model_id"] for row in a.status()["seeding"]] == ["one:1b:base:q8_0"]
        assert len(list(a.paths.torrents.iterdir())) == 1
        a.fails("info", "two", code=3)
        a.fails("verify", "two", code=3)
        a.fails("rm", "two", code=3)


BAD = {
    "nosuch": 3,
    "magnet:?xt=urn:btih:garbage": 2,
    "magnet:?dn=nothing": 2,
    "magnet:": 2,
    "/nonexistent/x.torrent": 3,
    "file:///etc/passwd": 2,
    "file:///etc/passwd.torrent": 2,
    "ftp://127.0.0.1/x.torrent": 2,
    "http://127.0.0.1:1/x.torrent": 2,
    "http://127.0.0.1:8999/x.torrent": 1,
    "../../etc/passwd": 2,
    "": 2,
    "a\nb": 2,
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_pulled_gets_one_line_and_its_exit_code(what: str, nodes: tuple[TestNode, TestNode]) -> None:
    _, b = nodes
    b.fails("pull", what, code=BAD[what])
    assert not b.status()["jobs"]


def test_a_torrent_file_that_is_none_is_refused_in_one_line(tmp_path: Path, nodes: tuple[TestNode, TestNode]) -> None:
    _, b = nodes
    for number, content in enumerate((b"", b"garbage", b"d4:infod6:lengthi-1eee", b"d" * 10_000)):
        path = tmp_path / f"{number}.torrent"
        path.write_bytes(content)
        b.fails("pull", str(path), code=1)


@pytest.mark.parametrize(("what", "code"), [("nosuch.gguf", 3), (".", 2), ("/dev/null", 2)])
def test_what_cannot_be_added_gets_one_line_and_its_exit_code(
    what: str, code: int, nodes: tuple[TestNode, TestNode]
) -> None:
    nodes[0].fails("add", what, code=code)


def test_an_empty_file_cannot_be_added(tmp_path: Path, nodes: tuple[TestNode, TestNode]) -> None:
    (tmp_path / "empty.gguf").touch()
    nodes[0].fails("add", str(tmp_path / "empty.gguf"), code=2)


@pytest.mark.parametrize("name", ["journal", "journal.new", "meta.torrent", "metadata.json"])
def test_a_file_named_like_one_of_halis_own_is_kept_apart_from_them(
    name: str, tmp_path: Path, nodes: tuple[TestNode, TestNode]
) -> None:
    a, _ = nodes
    nodes[0].fails("add", str(random_file(tmp_path / name, 1, seed=len(name))), code=7)
    assert not [m for m in a.ok("list") if m["files"] == [name]]
