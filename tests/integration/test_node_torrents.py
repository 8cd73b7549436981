"""With real daemons: any BitTorrent client takes what hali seeds, and hali takes what any client seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import libtorrent as lt
import pytest

from hali.transfer.metainfo import Metainfo, parse
from tests.fakes import plain_client
from tests.fakes.torrents import magnet_of, torrent_of
from tests.nodes import TestNode, node, pair, random_file, sha256_of, until

KIB = 1024
V1, V2 = lt.create_torrent.v1_only, lt.create_torrent.v2_only
KINDS = {"v1": V1, "v2": V2, "hybrid": 0}
# What LSD finds depends on infohashes alone, and another run of these tests on this machine must not be found.
OWN_SEED = os.getpid()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestNode, TestNode]]:
    with pair(tmp_path_factory.mktemp("nodes"), torrent_lsd="on") as both:
        yield both


def fetch_with_libtorrent(magnet: str, folder: Path, peer: str | None = None) -> None:
    folder.mkdir()
    command = [sys.executable, plain_client.__file__, magnet, str(folder), *([peer] if peer else [])]
    subprocess.run(command, check=True, timeout=90)


@pytest.mark.parametrize("by", ["peer", "lsd"])
def test_libtorrent_alone_downloads_what_a_printed_magnet_names(
    by: str, tmp_path: Path, nodes: tuple[TestNode, TestNode]
) -> None:
    a, _ = nodes
    file = random_file(tmp_path / f"Printed-{by}-1B-Q8_0.gguf", 33, seed=OWN_SEED + len(by))
    added = a.add(file)
    peer = f"127.0.0.1:{a.status()['torrent_port']}" if by == "peer" else None
    fetch_with_libtorrent(added["magnet"], tmp_path / "out", peer)
    assert sha256_of(tmp_path / "out" / file.name) == added["sha256"] == sha256_of(file)


def test_a_file_of_one_piece_goes_by_magnet_too(tmp_path: Path, nodes: tuple[TestNode, TestNode]) -> None:
    a, b = nodes
    file = random_file(tmp_path / "Small-1B-Q8_0.gguf", 0.03, seed=OWN_SEED + 10)
    added = a.add(file)
    fetch_with_libtorrent(added["magnet"], tmp_path / "out", f"127.0.0.1:{a.status()['torrent_port']}")
    assert sha256_of(tmp_path / "out" / file.name) == added["sha256"]
    assert b.pull(added["magnet"])["sha256"] == added["sha256"]


@pytest.mark.parametrize("form", ["magnet", "v1", "v2"])
def test_a_hali_magnet_and_its_infohashes_find_the_node_by_themselves(
    form: str, tmp_path: Path, nodes: tuple[TestNode, TestNode]
) -> None:
    a, b = nodes
    file = random_file(tmp_path / f"Form-{form}-1B-Q8_0.gguf", 17, seed=OWN_SEED + 20 + len(form))
    added = a.add(file)
    what = {"magnet": added["magnet"], "v1": added["infohash_v1"], "v2": added["infohash_v2"]}[form]
    pulled = b.pull(what)
    assert (pulled["sha256"], pulled["magnet"]) == (added["sha256"], added["magnet"])


def foreign(folder: Path, kind: str, seed: int, piece: int = 256 * KIB, mib: float = 35.2) -> tuple[Path, Metainfo]:
    """A file and somebody else's torrent of it."""
    file = random_file(folder / f"Foreign-{kind}-{seed % 100}-3B-Q4_0.gguf", mib, seed=OWN_SEED + seed)
    return file, parse(torrent_of(file, piece, KINDS[kind]))


def assert_shared_under_both(each: TestNode, file: Path, theirs: Metainfo, tmp_path: Path) -> None:
    """The node has the file, and serves it to strangers by its own torrent and by the foreign one."""
    (found,) = [row for row in each.status()["seeding"] if row["sha256"] == sha256_of(file)]
    assert found["status"] == "seeding"
    peer = f"127.0.0.1:{each.status()['torrent_port']}"
    for number, magnet in enumerate((found["magnet"], magnet_of(theirs))):
        fetch_with_libtorrent(magnet, tmp_path / f"stranger{number}", peer)
        assert sha256_of(tmp_path / f"stranger{number}" / file.name) == sha256_of(file)


@pytest.mark.parametrize(("kind", "streaming"), [("v1", "off"), ("v2", "on"), ("hybrid", "on")])
def test_a_magnet_of_a_plain_seeder_is_pulled_and_seeded_by_both_torrents_also_after_a_restart(
    kind: str, streaming: str, tmp_path: Path
) -> None:
    file, torrent = foreign(tmp_path / "theirs", kind, 30)
    with node(tmp_path / "n", streaming_hash=streaming) as n:
        with plain_client.seeder(torrent.raw, file.parent) as theirs:
            pulled = n.pull(magnet_of(torrent, theirs.peer))
        assert (pulled["sha256"], pulled["state"]) == (sha256_of(file), "seeding")
        assert pulled["sources"] == {"torrent": file.stat().st_size}
        assert pulled["also_torrents"] == [torrent.infohashes.v1 or torrent.infohashes.v2]
        assert pulled["infohash_v1"] != torrent.infohashes.v1
        assert n.pull(magnet_of(torrent))["from_store"] is True
        n.kill()
        n.start()
        until(lambda: n.state_of(pulled["sha256"]) == "seeding", "it is seeded again")
        assert_shared_under_both(n, file, torrent, tmp_path)
        n.call("rm", model=pulled["sha256"])
        assert not list(n.paths.torrents.iterdir())
        assert n.call("stats")["models"] == []


def test_a_plain_seeder_is_found_by_lsd_alone(tmp_path: Path, nodes: tuple[TestNode, TestNode]) -> None:
    _, b = nodes
    file, torrent = foreign(tmp_path / "theirs", "v1", 40, mib=3)
    with plain_client.seeder(torrent.raw, file.parent, lsd=True):
        assert b.pull(magnet_of(torrent))["sha256"] == sha256_of(file)
    file, torrent = foreign(tmp_path / "theirs", "v1", 41, mib=3)
    with plain_client.seeder(torrent.raw, file.parent, lsd=True):
        assert b.pull(torrent.infohashes.v1 or "")["sha256"] == sha256_of(file)


@pytest.mark.parametrize("kind", KINDS)
def test_a_torrent_file_is_pulled(kind: str, tmp_path: Path, nodes: tuple[TestNode, TestNode]) -> None:
    _, b = nodes
    file, torrent = foreign(tmp_path / "theirs", kind, 50 + len(kind), mib=5.1)
    path = tmp_path / "some.torrent"
    path.write_bytes(torrent.raw)
    with plain_client.seeder(torrent.raw, file.parent, lsd=True):
        pulled = b.pull(str(path))
    assert (pulled["sha256"], pulled["files"]) == (sha256_of(file), [file.name])
    again = b.pull(str(path))
    assert (again["from_store"], again["model_id"]) == (True, pulled["model_id"])


def test_one_more_torrent_of_a_stored_file_changes_nothing_but_is_no_error(
    tmp_path: Path, nodes: tuple[TestNode, TestNode]
) -> None:
    _, b = nodes
    file, torrent = foreign(tmp_path / "theirs", "v1", 60, mib=3)
    added = b.add(file)
    with plain_client.seeder(torrent.raw, file.parent) as theirs:
        pulled = b.pull(magnet_of(torrent, theirs.peer))
    assert (pulled["sha256"], pulled["path"]) == (added["sha256"], added["path"])
    assert [row["sha256"] for row in b.status()["seeding"]].count(added["sha256"]) == 1
    until(lambda: b.state_of(added["sha256"]) == "seeding", "it is seeded")


def test_a_torrent_whose_pieces_cross_its_files_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, nodes: tuple[TestNode, TestNode]
) -> None:
    _, b = nodes
    folder = tmp_path / "theirs" / "many"
    for number in range(3):
        random_file(folder / f"{number}.bin", 1.1, seed=number)
    raw = torrent_of(folder, 256 * KIB, V1)
    (tmp_path / "many.torrent").write_bytes(raw)
    assert "cross the borders" in b.fails("pull", str(tmp_path / "many.torrent"), code=7, told_before=True)
    with plain_client.seeder(raw, folder.parent) as theirs:
        assert "cross the borders" in b.fails("pull", magnet_of(parse(raw), theirs.peer), code=7, told_before=True)
    assert not list((b.paths.models() / ".incoming").glob("*/many*"))
