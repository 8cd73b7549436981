"""One model, hosts of their own, and everybody's client gets it from hali and gives it to hali."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libtorrent as lt
import pytest

from hali.transfer.metainfo import parse
from hali.transfer.v1_twin import v1_twin
from tests.fakes.torrents import magnet_of, torrent_of
from tests.net.clients import KINDS, client, reads_hybrid
from tests.net.lab import Lab, LabNode, lab
from tests.nodes import SMOLLM2, random_file, sha256_of, until

pytestmark = [pytest.mark.net, pytest.mark.model]

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of SmolLM2-135M-Instruct.Q4_1.gguf
# A kilobyte or two of headers for each 64 KiB segment, requests, and the metadata.
OVERHEAD = 1.05
V1, V2 = lt.create_torrent.v1_only, lt.create_torrent.v2_only


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lan")) as made:
        yield made


@pytest.fixture(scope="module")
def a(lan: Lab, smollm2: Path) -> LabNode:
    """A node that has imported the model."""
    node = lan.node("a")
    node.start()
    assert node.ok("add", str(smollm2))["sha256"] == SHA256
    return node


def test_a_second_node_pulls_it_by_name_without_hugging_face(a: LabNode, lan: Lab, smollm2: Path) -> None:
    b = lan.node("b")  # the hub is the real one's name, and there is neither a name server nor a route to it
    b.start()
    b.hears(SMOLLM2)
    pulled = b.ok("pull", SMOLLM2)
    size = smollm2.stat().st_size
    assert (pulled["sha256"], pulled["sources"]) == (SHA256, {"lan": size})
    assert sha256_of(Path(pulled["path"])) == SHA256
    assert size < b.host.traffic().received < OVERHEAD * size
    b.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_client_fetches_it_by_the_printed_magnet_alone(
    kind: str, a: LabNode, lan: Lab, smollm2: Path, tmp_path: Path
) -> None:
    """Who cannot read hybrid torrents (`clients.py` says why) takes the magnet of the v1 torrent that is seeded beside."""
    info = a.ok("info", SHA256)
    host = lan.host(f"to-{kind}")
    with client(kind, host, tmp_path / "home") as theirs:
        theirs.add(info["magnet" if reads_hybrid(kind) else "magnet_v1"], tmp_path / "out")
        until(theirs.is_complete, f"{kind} has the model")
    assert sha256_of(tmp_path / "out" / smollm2.name) == SHA256
    size = smollm2.stat().st_size
    assert size < host.traffic().received < OVERHEAD * size


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_pulls_it_from_a_foreign_client_alone_by_hali_s_magnet(
    kind: str, a: LabNode, lan: Lab, smollm2: Path, tmp_path: Path
) -> None:
    info = a.ok("info", SHA256)
    torrent, link = a.paths.torrents / f"{info['infohash_v1']}.torrent", info["magnet"]
    if not reads_hybrid(kind):
        raw, torrent, link = v1_twin(torrent.read_bytes()), tmp_path / "v1.torrent", info["magnet_v1"]
        torrent.write_bytes(raw)
    with a.host.unplugged(), client(kind, lan.host(f"of-{kind}"), tmp_path / "home") as theirs:
        theirs.add(torrent, smollm2.parent, complete=True)
        until(theirs.is_complete, f"{kind} seeds")
        b = lan.node(f"b-{kind}")
        assert b.ok("pull", link)["sha256"] == SHA256
        b.stop()


THEIRS = [
    pytest.param(
        "transmission", V1, "torrent", marks=pytest.mark.long
    ),  # it waits long for LSD, and the magnet is harder
    ("transmission", V1, "magnet"),
    ("qbittorrent", V2, "magnet"),
    ("qbittorrent", 0, "torrent"),
    ("aria2", V1, "magnet"),
    ("libtorrent", V2, "torrent"),
    ("libtorrent", 0, "magnet"),
]


@pytest.mark.parametrize(("kind", "form", "by"), THEIRS)
def test_a_node_pulls_what_others_made_from_a_foreign_client_alone(
    kind: str, form: int, by: str, lan: Lab, tmp_path: Path
) -> None:
    """v2 only from those that can: Transmission and aria2 have no v2."""
    number = list(KINDS).index(kind) * 100 + form + len(by)
    file = random_file(tmp_path / "theirs" / f"Other{number}-1B-Q8_0.gguf", 9.3, seed=700 + number)
    torrent = tmp_path / "theirs.torrent"
    torrent.write_bytes(torrent_of(file, 1024 * 1024, form))
    what = str(torrent) if by == "torrent" else magnet_of(parse(torrent.read_bytes()))
    node = lan.node(f"n{number}")
    with client(kind, lan.host(f"from{number}"), tmp_path / "home") as theirs:
        theirs.add(torrent, file.parent, complete=True)
        until(theirs.is_complete, f"{kind} seeds")
        assert node.ok("pull", what)["sha256"] == sha256_of(file)
    node.stop()
