"""Models of several files with real daemons: the parts of a GGUF split and a vision projector are one model everywhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import libtorrent as lt
import pytest

from hali.model.units import PIECE
from hali.share.incoming import JOURNALS
from hali.store import journal, placing
from hali.store.models import METADATA
from hali.wire.manifest import FileRef, identity
from tests.fakes import plain_client
from tests.fakes.bundles import torrent_by_libtorrent
from tests.fakes.gguf_splits import split
from tests.fakes.hf_server import FakeHub
from tests.nodes import MIB, TestNode, flip, node, random_file, recorded, sha256_of, until

REPO = "owner/Many-7B-GGUF"
RATE = 60_000_000  # bytes a second: slow enough to be killed in the middle, and for two sources to share the work
PROJECTOR = "mmproj-Many-7B-F16.gguf"
QUESTION = ("Why is the sky blue?", "--temperature", "0", "--max-tokens", "12")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two parts and a projector, of three pieces, two and one."""
    folder = tmp_path_factory.mktemp("parts")
    sizes = {"Many-7B-Q4_0-00001-of-00002.gguf": 34.3, "Many-7B-Q4_0-00002-of-00002.gguf": 17.0, PROJECTOR: 1.5}
    return [random_file(folder / name, mib, seed=number) for number, (name, mib) in enumerate(sizes.items())]


def identity_of(files: list[Path]) -> str:
    """By hashlib and the rule in words, not by what hali found."""
    return identity([FileRef(path.name, path.stat().st_size, sha256_of(path)) for path in files])


@contextmanager
def hub_with(files: list[Path], *, rate: int | None = None) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.add(REPO, {path.name: path for path in files})
        hub.faults.rate = rate
        yield hub


def assert_whole(each: TestNode, files: list[Path]) -> dict[str, Any]:
    """The only model of the node is made of these files, and seeded."""
    (found,) = each.call("models")["models"]
    assert (found["state"], found["sha256"]) == ("seeding", identity_of(files)), each.log()
    assert found["files"] == [path.name for path in files]
    folder = Path(found["path"]).parent
    assert [sha256_of(folder / path.name) for path in files] == [sha256_of(path) for path in files]
    assert sorted(os.listdir(folder)) == sorted([*found["files"], METADATA])
    assert not list((each.paths.models() / ".incoming").iterdir())
    return dict(found)


def seeds_again(each: TestNode, sha256: str) -> None:
    """Wait until a node that just started, and is ready before, seeds what it has."""
    until(lambda: each.state_of(sha256) == "seeding", "it is seeded again")


@pytest.mark.model
def test_a_split_with_its_projector_goes_from_the_hub_over_the_lan_to_a_node_that_runs_it(
    smollm2: Path, tmp_path: Path
) -> None:
    name = smollm2.name.removesuffix(".gguf")
    files = split(smollm2, tmp_path / "parts", 3)
    files.append(random_file(tmp_path / "parts" / f"mmproj-{name}-F16.gguf", 1))
    with hub_with(files) as hub, node(tmp_path / "b", hf_endpoint=hub.url) as b, node(tmp_path / "c") as c:
        pulled = b.ok("pull", f"{REPO}:Q4_1")
        assert pulled["sources"] == {"http": sum(path.stat().st_size for path in files)}
        assert_whole(b, files)
        assert b.ok("pull", f"{REPO}:Q4_1")["from_store"]

        c.start()
        c.hears(pulled["model_id"])
        again = c.ok("pull", pulled["model_id"])
        assert (again["magnet"], again["sources"]) == (pulled["magnet"], {"lan": pulled["size"]})
        assert_whole(c, files)

        (tmp_path / "plain").mkdir()
        assert plain_client.fetch(pulled["magnet"], str(tmp_path / "plain"), f"127.0.0.1:{b.status()['torrent_port']}")
        for path in files:
            assert sha256_of(tmp_path / "plain" / name / path.name) == sha256_of(path)

        b.add(smollm2)
        of_split = c.ok("run", again["sha256"], *QUESTION)
        of_whole = b.ok("run", sha256_of(smollm2), *QUESTION)
        assert of_split["content"] == of_whole["content"] != ""


def test_a_pull_killed_in_the_middle_fetches_and_hashes_no_finished_piece_of_any_file_again(
    parts: list[Path], tmp_path: Path
) -> None:
    with hub_with(parts, rate=RATE // 16) as hub, node(tmp_path / "b", hf_endpoint=hub.url, lan_enabled="off") as b:
        b.start()
        with b.client() as client:
            next(e for kind, e in client.stream("pull", what=REPO) if kind == "event" and e["state"] == "downloading")
        until(lambda: len(on_record(b)) >= 3, "three pieces are on record")
        b.kill()
        known = on_record(b)
        assert len(known) < 6, "too late to be in the middle"
        hub.hang_up()
        asked = len(hub.ranges())
        hub.faults.rate = None
        b.start()
        b.idle()
        assert_whole(b, parts)
        there = sum(size_of(parts, file, piece) for file, piece in known)
        wanted = sum(path.stat().st_size for path in parts) - there
        assert sum(map(length_of, hub.ranges()[asked:])) == wanted
        assert sum(event["hashed"] for event in b.events("incoming.hashed")) == 6 - len(known)


def on_record(each: TestNode) -> set[tuple[int, int]]:
    """(file, piece) of the only unfinished model, files in the order of the torrent."""
    found = (each.paths.models() / ".incoming").glob(f"*/{JOURNALS}/?")
    return {(int(path.name), piece) for path in found for piece in recorded(path, journal._PIECE)}


def length_of(span: str) -> int:
    """Of `bytes=FIRST-LAST`."""
    first, _, last = span.removeprefix("bytes=").partition("-")
    return int(last) - int(first) + 1


def size_of(parts: list[Path], file: int, piece: int) -> int:
    return min(PIECE, parts[file].stat().st_size - piece * PIECE)


def test_the_repository_and_a_node_of_the_lan_bring_one_model_together(parts: list[Path], tmp_path: Path) -> None:
    with (
        hub_with(parts, rate=RATE // 32) as hub,  # of each of eight connections: as fast as the node
        node(tmp_path / "a", max_upload_mbps=str(RATE // 4 * 8 // 1_000_000)) as a,
        node(tmp_path / "b", hf_endpoint=hub.url) as b,
    ):
        b.start()
        a.start()
        added = a.ok("add", str(parts[1]), "--with-mmproj", str(parts[2]))
        assert_whole(a, parts)
        b.hears(added["model_id"])
        b.pull(REPO)
        found = assert_whole(b, parts)
        assert set(found["sources"]) == {"http", "lan"}
        assert sum(found["sources"].values()) == sum(path.stat().st_size for path in parts)


def test_of_a_repository_that_sends_one_wrong_file_the_right_ones_are_kept(parts: list[Path], tmp_path: Path) -> None:
    """The SHA-256 of each file tells which one it is; a node of the LAN has it right."""
    with hub_with(parts) as hub, node(tmp_path / "a") as a, node(tmp_path / "b", hf_endpoint=hub.url) as b:
        hub.faults.flip_at = 20 * MIB  # only the first file is so long
        b.start()
        told = b.fails("pull", REPO, code=5, told_before=True)
        assert parts[0].name in told and sha256_of(parts[0]) in told
        assert on_record(b) == {(1, 0), (1, 1), (2, 0)}
        a.start()
        added = a.ok("add", str(parts[0]), "--with-mmproj", str(parts[2]))
        b.hears(added["model_id"])
        b.pull(REPO)
        found = assert_whole(b, parts)
        assert found["sources"]["lan"] >= PIECE  # the repository has it wrong


def test_a_flipped_byte_is_found_in_its_file_and_the_model_comes_again(parts: list[Path], tmp_path: Path) -> None:
    with hub_with(parts) as hub, node(tmp_path / "b", hf_endpoint=hub.url, lan_enabled="off") as b:
        pulled = b.pull(REPO)
        second = Path(pulled["path"]).with_name(parts[1].name)
        flip(second, PIECE + 5)
        told = b.fails("verify", pulled["sha256"], code=5, told_before=True)
        assert f"is damaged: {parts[1].name}, wrong piece 1 of 2: " in told
        (damage,) = json.loads(b.hali("verify", pulled["sha256"], "--json").stdout)["error"]["details"]["files"]
        assert (damage["file"], damage["pieces"], damage["expected_sha256"]) == (
            parts[1].name,
            [1],
            sha256_of(parts[1]),
        )
        assert b.state_of(pulled["sha256"]) == "damaged"
        b.pull(REPO)
        assert_whole(b, parts)
        verified = b.ok("verify", pulled["sha256"])
        assert (verified["pieces"], verified["size"]) == (6, pulled["size"])
        b.ok("rm", "--yes", pulled["sha256"])
        assert b.call("models")["models"] == [] and not Path(pulled["path"]).parent.exists()


def test_a_crash_between_two_files_on_their_way_into_the_store_is_finished_at_the_next_start(
    parts: list[Path], tmp_path: Path
) -> None:
    with node(tmp_path / "a") as a:
        added = a.add(parts[0])
        a.stop()
        folder = Path(added["path"]).parent
        waiting = a.paths.models() / ".incoming" / "add-x"
        waiting.mkdir(parents=True)
        shutil.move(folder / parts[1].name, waiting)
        meta = json.loads((folder / METADATA).read_text())
        note = {"directory": os.path.relpath(folder, waiting), "meta": meta}
        (waiting / placing.NOTE).write_text(json.dumps(note))
        (folder / METADATA).unlink()
        a.start()
        seeds_again(a, identity_of(parts[:2]))
        assert_whole(a, parts[:2])
        assert a.events("store.recovered")


def test_what_is_missing_is_named_and_what_is_not_wanted_is_left_out(parts: list[Path], tmp_path: Path) -> None:
    with hub_with(parts) as hub, node(tmp_path / "b", hf_endpoint=hub.url, lan_enabled="off") as b:
        pulled = b.ok("pull", f"{REPO}/{parts[1].name}")
        assert pulled["files"] == [path.name for path in parts[:2]]
        assert b.ok("pull", f"{REPO}:Q4_0")["from_store"]
        hub.add("owner/half", {parts[0].name: parts[0]})
        assert f"{parts[1].name} is missing; the model has 1 of 2 parts" in b.fails("pull", "owner/half", code=3)
        alone = shutil.copy(parts[0], tmp_path)
        told = b.fails("add", str(alone), code=3)
        assert f"{parts[1].name} is not beside it in {tmp_path}" in told


def test_a_file_that_another_model_has_is_copied_and_fetched_only_where_the_copy_is_wrong(
    parts: list[Path], tmp_path: Path
) -> None:
    weights, projector = sum(path.stat().st_size for path in parts[:2]), parts[2].stat().st_size
    with hub_with(parts) as hub, node(tmp_path / "b", hf_endpoint=hub.url, lan_enabled="off") as b:
        pulled = b.ok("pull", f"{REPO}/{parts[1].name}")
        hub.requests.clear()
        both = b.ok("pull", "--mmproj", f"{REPO}:Q4_0")
        assert both["sources"] == {"store": weights, "http": projector}
        assert "lies in 3 files" in b.fails("handoff", "qbittorrent", both["sha256"], code=7)
        assert not [request for request in hub.requests if request.sent and PROJECTOR not in request.path]
        right = [sha256_of(path) for path in parts]
        assert [sha256_of(Path(both["path"]).parent / path.name) for path in parts] == right
        b.ok("rm", "--yes", both["sha256"])

        stored = Path(pulled["path"])
        times = stored.stat().st_mtime_ns
        with stored.open("r+b") as file:  # nothing tells that it changed
            file.write(b"GGUF\xff")
        os.utime(stored, ns=(times, times))
        again = b.ok("pull", "--mmproj", f"{REPO}:Q4_0")
        assert again["sources"] == {"store": parts[1].stat().st_size, "http": projector + parts[0].stat().st_size}
        assert [sha256_of(Path(again["path"]).parent / path.name) for path in parts] == right


def test_web_seeds_of_a_torrent_bring_all_its_files_also_from_a_server_without_ranges(
    parts: list[Path], tmp_path: Path
) -> None:
    """BEP 19: the address of the folder, then the torrent's name and the file's."""
    folder = tmp_path / "www" / "a folder" / "Many"
    shutil.copytree(parts[0].parent, folder)
    with http_server(tmp_path / "www") as url, node(tmp_path / "b", torrent_private_web_seeds="on") as b:
        torrent: Any = torrent_by_libtorrent(folder)
        torrent[b"url-list"] = f"{url}/a%20folder/".encode()
        (tmp_path / "many.torrent").write_bytes(bytes(lt.bencode(torrent)))
        pulled = b.ok("pull", str(tmp_path / "many.torrent"))
        assert pulled["sources"] == {"webseed": pulled["size"]}
        assert_whole(b, parts)


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """Python's own, which knows no ranges."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("piece", [MIB, PIECE])
def test_a_strangers_torrent_of_several_files_is_pulled_and_seeded_by_both_torrents_also_after_a_restart(
    piece: int, parts: list[Path], tmp_path: Path
) -> None:
    """Made by libtorrent under a name of its own."""
    folder = tmp_path / "theirs" / "Another name"
    shutil.copytree(parts[0].parent, folder)
    raw = bytes(lt.bencode(torrent_by_libtorrent(folder, piece, 0)))
    infohash = str(lt.torrent_info(lt.bdecode(raw)).info_hashes().v1)
    with node(tmp_path / "b") as b:
        with plain_client.seeder(raw, folder.parent) as theirs:
            pulled = b.pull(f"magnet:?xt=urn:btih:{infohash}&x.pe={theirs.peer}")
        assert pulled["also_torrents"] == [infohash]
        assert_whole(b, parts)
        b.kill()
        b.start()
        seeds_again(b, pulled["sha256"])
        assert_whole(b, parts)
        peer = f"127.0.0.1:{b.status()['torrent_port']}"
        for number, magnet in enumerate((pulled["magnet"], f"magnet:?xt=urn:btih:{infohash}")):
            (out := tmp_path / str(number)).mkdir()
            assert plain_client.fetch(magnet, str(out), peer)
            assert sum(sha256_of(path) == sha256_of(parts[0]) for path in out.rglob(parts[0].name)) == 1
