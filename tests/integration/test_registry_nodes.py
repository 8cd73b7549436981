"""Two real nodes and a real `hali registry serve`: publish, search, pull through it, and the registry being down."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nodes import TestNode, node, random_file, sha256_of, until
from tests.registries import RegistryServer, gguf_file, registry

pytestmark = pytest.mark.blocking_ok

NAME = "Listed-1B-Instruct-Q4_K_M.gguf"
ID = "listed:1b:instruct:q4_k_m"
WORDS = ("whole", "damaged", "gone", "bare")
POOR = "Poor-1B-Q8_0.gguf"  # random bytes: no GGUF


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fake hub in a process of its own: nodes keep connections to it open beyond the test that needed them."""
    folder = tmp_path_factory.mktemp("hub")
    files = [gguf_file(folder / NAME, 1), random_file(folder / POOR, 0.5)]
    command = [sys.executable, "-m", "tests.fakes.hf_server", "owner/listed-GGUF", *map(str, files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
        process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def settings(hub: str, server: RegistryServer, **more: str) -> dict[str, str]:
    return {"hf_endpoint": hub, "registry_url": server.url, "lan_enabled": "off", **more}


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, hub: str, server: RegistryServer
) -> Iterator[tuple[TestNode, TestNode]]:
    folder = tmp_path_factory.mktemp("nodes")
    with node(folder / "a", **settings(hub, server)) as a, node(folder / "b", **settings(hub, server)) as b:
        a.launch()
        b.launch()
        a.ready()
        b.ready()
        for name in (NAME, POOR):
            a.pull(f"owner/listed-GGUF/{name}")
        yield a, b


def test_what_one_node_publishes_another_finds_and_pulls_by_name(
    nodes: tuple[TestNode, TestNode], server: RegistryServer
) -> None:
    a, b = nodes
    published = a.ok("publish", "listed")
    assert published["registries"] == [{"url": server.url, "state": "published", "error": None}]
    (row,) = server.search("listed")
    assert (row["model_id"], row["publisher"], row["hf_repo"]) == (ID, published["publisher"], "owner/listed-GGUF")
    assert row["trust"]["parts"]["format"] == 30
    found = b.ok("search", "listed")
    assert {(each["name"], each["provider"]) for each in found} >= {
        (ID, "registries"),
        ("owner/listed-GGUF", "Hugging Face"),
    }
    pulled = b.ok("pull", "listed:1b")
    assert pulled["sha256"] == a.call("info", model=ID)["sha256"] == sha256_of(Path(pulled["path"]))
    assert pulled["registry"] == {"url": server.url, "trust": row["trust"]["score"], "publisher": row["publisher"]}
    shown = b.hali("pull", "listed:1b").stdout
    assert f"trust   {row['trust']['score']:.0f} of 100, publisher {row['publisher'][:16]}" in shown


def test_both_nodes_publish_one_model_and_nobody_publishes_in_the_others_name(
    nodes: tuple[TestNode, TestNode], server: RegistryServer
) -> None:
    a, b = nodes
    b.pull(ID)
    keys = [each.call("publish", model=ID)["publisher"] for each in (a, b)]
    sha256 = a.call("info", model=ID)["sha256"]
    shown = server.get(f"/model/{sha256}").json()
    assert {shown["manifest"]["document"]["publisher"], *(each["publisher"] for each in shown["others"])} >= set(keys)
    manifest = server.get(f"/model/{sha256}", publisher=keys[0]).json()["manifest"]
    tampered = (
        {"model_id": "evil:1b:base:q4_k_m"},
        {"publisher": keys[1]},
        {"sequence": manifest["document"]["sequence"] + 1},
    )
    for changes in tampered:
        answer = server.post("/publish", json.dumps(manifest | {"document": manifest["document"] | changes}).encode())
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_signature")
    replayed = server.post("/publish", json.dumps(manifest).encode())
    assert (replayed.status_code, replayed.json()["error"]["code"]) == (409, "replayed")


def test_a_registry_names_a_model_also_by_its_hashes(nodes: tuple[TestNode, TestNode], server: RegistryServer) -> None:
    a, b = nodes
    a.call("publish", model=ID)
    info = a.call("info", model=ID)
    for name in ("sha256", "infohash_v2", "infohash_v1"):
        b.pull(ID)
        b.call("rm", model=ID)
        assert b.pull(info[name])["sha256"] == info["sha256"]
        assert server.get(f"/model/{info[name]}").json()["manifest"]["document"]["model_id"] == ID


def test_a_poorly_trusted_model_is_pulled_only_when_asked_for(
    nodes: tuple[TestNode, TestNode], server: RegistryServer
) -> None:
    a, b = nodes
    a.ok("publish", "poor")
    assert server.search("poor") == []
    (row,) = server.search("poor", untrusted="1")
    assert row["trust"]["parts"]["format"] == 20  # no GGUF header
    told = b.fails("pull", "poor", code=7)
    assert "trust 20 of 100 is below 30" in told and "--allow-untrusted" in told
    assert b.ok("pull", "poor", "--allow-untrusted")["sha256"] == row["sha256"]


def test_a_name_that_no_registry_lists_is_not_found(nodes: tuple[TestNode, TestNode]) -> None:
    nodes[1].fails("pull", "nosuchmodel", code=3)


def test_profile_and_rotated_key_reach_the_registry_and_what_the_old_key_signed_stays_valid(
    tmp_path: Path, hub: str, server: RegistryServer
) -> None:
    with node(tmp_path / "e", **settings(hub, server)) as e:
        sha256 = e.pull(f"owner/listed-GGUF/{NAME}")["sha256"]
        e.call("publish", model=ID)
        profile = {"display_name": "Alice", "website": "https://alice.example"}
        old = e.ok("profile", "set", "--display-name", "Alice", "--website", profile["website"])["publisher"]
        done = e.ok("registry", "keys", "rotate", "--yes")
        assert (done["old"], done["publisher"] != old) == (old, True)
        e.restart()
        assert e.ok("profile", "show") == {"publisher": done["publisher"], "profile": profile}
        delivered(e)
        seen = server.get(f"/publisher/{done['publisher']}").json()
        assert seen["keys"] == [old, done["publisher"]]
        assert seen["profile"]["document"]["display_name"] == "Alice"
        closing = server.get(f"/publisher/{old}").json()["closing"]["document"]
        assert (closing["type"], closing["successor"]) == ("rotation", done["publisher"])
        assert e.call("publish", model=ID)["publisher"] == done["publisher"]
        for key in (old, done["publisher"]):
            assert server.get(f"/model/{sha256}", publisher=key).status_code == 200


def waiting(each: TestNode) -> list[str]:
    """Kinds of the messages in the outbox."""
    return [event["kind"] for event in each.call("registry_status")["outbox"]]


def delivered(each: TestNode) -> None:
    until(lambda: not waiting(each), "the outbox is empty")


def test_with_the_registry_down_pulls_succeed_and_its_events_arrive_later_even_after_a_kill(
    tmp_path: Path, hub: str
) -> None:
    server = RegistryServer(tmp_path / "registry")
    more = settings(hub, server, registry_publish="on", telemetry="on")
    with node(tmp_path / "c", **more) as c:
        pulled = c.pull(f"owner/listed-GGUF/{NAME}")
        assert pulled["state"] == "seeding"
        until(lambda: waiting(c) == ["publish", "report"], "both are written down, soon after the answer")
        c.kill()
        c.start()
        server.start()
        try:
            delivered(c)
            (row,) = server.search("listed")
            assert (row["sha256"], row["trust"]["inputs"]["ok"]) == (pulled["sha256"], 1)
            assert server.get(f"/torrent/{row['infohash']}").status_code == 200
        finally:
            c.stop()
            server.stop()


def test_without_telemetry_and_publishing_nothing_is_written_down(nodes: tuple[TestNode, TestNode]) -> None:
    _, b = nodes
    b.pull(ID)
    assert b.ok("registry", "status")["outbox"] == []


def test_a_revoked_key_publishes_no_more_and_a_new_one_takes_over(
    nodes: tuple[TestNode, TestNode], server: RegistryServer
) -> None:
    a, _ = nodes
    done = a.ok("registry", "keys", "revoke", "--yes", "--reason", "laptop stolen")
    delivered(a)
    closing = server.get(f"/publisher/{done['revoked']}").json()["closing"]["document"]
    assert (closing["type"], closing["reason"]) == ("revocation", "laptop stolen")
    assert a.call("publish", model=ID)["publisher"] == done["publisher"] != done["revoked"]


def test_a_static_folder_lists_what_is_whole_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    files = {word: gguf_file(tmp_path / f"{word}-1B-Q4_K_M.gguf", seed) for seed, word in enumerate(WORDS)}
    with node(tmp_path / "e", lan_enabled="off") as e:
        added = {word: e.add(path) for word, path in files.items()}
        path = Path(added["damaged"]["path"])
        path.unlink()  # the file that was added may be the same one
        path.write_bytes(files["whole"].read_bytes())
        e.fails("verify", "damaged", code=5)
        Path(added["gone"]["path"]).unlink()
        (e.paths.torrents / f"{added['bare']['infohash_v1']}.torrent").unlink()
        made = e.hali("registry", "index", str(tmp_path / "folder"), "--json")
        assert made.returncode == 0, made.stderr
        told = json.loads(made.stdout)
        assert [each["model_id"].split(":")[0] for each in told["left_out"]] == ["damaged", "gone", "bare"]
        assert told["models"] == 1
        index = json.loads((tmp_path / "folder" / "index.json").read_bytes())
        assert [entry["model_id"] for entry in index["document"]["entries"]] == [added["whole"]["model_id"]]
        lines = made.stderr.splitlines()
        for word, line in zip(("damaged", "gone", "bare"), lines, strict=True):
            assert line.startswith("hali: left out: ")
            assert added[word]["model_id"] in line


def test_a_static_folder_serves_another_node_and_no_older_index_is_believed(
    tmp_path: Path, nodes: tuple[TestNode, TestNode], hub: str
) -> None:
    a, _ = nodes
    folder = tmp_path / "folder"
    made = a.ok("registry", "index", str(folder))
    before = (folder / "index.json").read_bytes()
    a.fails("registry", "index", "", code=2)  # of an unset variable, say: not the folder that one happens to be in
    again = a.ok("registry", "index", str(folder))
    assert again["sequence"] > made["sequence"]
    newest = (folder / "index.json").read_bytes()
    (folder / "index.json").write_bytes(
        before
    )  # as a reader has it who asked for it while the folder was written again
    pinned = {"registry_url": f"file://{folder}#ed25519:{made['key']}", "hf_endpoint": hub, "lan_enabled": "off"}
    with node(tmp_path / "d", **pinned) as d:
        pulled = d.ok("pull", "listed")
        assert pulled["sha256"] == a.call("info", model=ID)["sha256"]
        assert pulled["registry"]["trust"] is None
        d.call("rm", model="listed")
        (folder / "index.json").write_bytes(newest)
        assert d.pull("listed")["sha256"] == pulled["sha256"]
        d.call("rm", model="listed")
        (folder / "index.json").write_bytes(before)
        assert "older" in d.fails("pull", "listed", code=5)
        index = json.loads(before)
        index["document"]["sequence"] += 10**6
        (folder / "index.json").write_text(json.dumps(index))
        assert "signature" in d.fails("pull", "listed", code=5)
