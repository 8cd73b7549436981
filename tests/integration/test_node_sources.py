"""One file from the repository, a node of the LAN and a stranger's BitTorrent client at the same time, with real daemons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hali.cli.reference_metrics import told
from hali.hashing import hash_file
from hali.model.units import PIECE, piece_count
from hali.share.division import AT_ONCE
from hali.transfer import metainfo
from tests.fakes import plain_client
from tests.fakes.hf_server import FakeHub
from tests.fakes.plain_client import PlainSeeder
from tests.nodes import TestNode, node, random_file, sha256_of, until

REPO = "owner/Many-7B-GGUF"
NAME = "Many-7B-Q4_0.gguf"
RATE = 16_000_000  # bytes a second of each source: none can have it all before the others are there


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_file(tmp_path_factory.mktemp("files") / NAME, 140)


class Sources(NamedTuple):
    """Three of one file, and the node that wants it."""

    hub: FakeHub
    lan: TestNode
    stranger: PlainSeeder
    b: TestNode

    def begin(self) -> Any:
        """`hali pull` from the repository; the stranger dials in."""
        pulling = self.b.start_hali("pull", REPO, "--json")
        until(lambda: self.b.events("incoming.opened"), "the pull has begun")
        port = self.b.status()["torrent_port"]
        until(lambda: self.stranger.meets("127.0.0.1", port), "the stranger is connected")
        return pulling

    def mix(self) -> dict[str, int]:
        """Bytes by source so far."""
        jobs = self.b.status()["jobs"]
        return dict(jobs[0]["sources"]) if jobs else {}


@contextmanager
def three(file: Path, tmp_path: Path, lan_rate: int = RATE) -> Iterator[Sources]:
    torrent = metainfo.build(hash_file(file), NAME)
    with (
        FakeHub() as hub,
        node(tmp_path / "a", max_upload_mbps=str(lan_rate * 8 // 1_000_000)) as a,
        node(tmp_path / "b", hf_endpoint=hub.url) as b,
        plain_client.seeder(torrent, file.parent, rate=RATE, address="127.0.0.77") as stranger,
    ):
        hub.add(REPO, {NAME: file})
        hub.faults.rate = RATE // 8  # each connection; eight are open
        b.start()
        b.hears(a.add(file)["model_id"])
        yield Sources(hub, a, stranger, b)


def ended(pulling: Any, b: TestNode, file: Path) -> dict[str, Any]:
    _, err = pulling.communicate(timeout=120)
    assert pulling.returncode == 0, (err, b.log())
    (found,) = b.call("models")["models"]
    assert (found["state"], found["sha256"], sha256_of(Path(found["path"]))) == ("seeding", *2 * (sha256_of(file),))
    return dict(found)


def test_three_sources_feed_one_file_and_info_tells_what_each_brought(file: Path, tmp_path: Path) -> None:
    with three(file, tmp_path, lan_rate=RATE // 2) as s:  # the stranger comes last, and is to find something left
        found = ended(s.begin(), s.b, file)
        mix = found["sources"]
        assert set(mix) == {"http", "lan", "torrent"}
        assert sum(mix.values()) == file.stat().st_size
        assert s.b.call("info", model=found["sha256"])["sources"] == mix
        # What two of them fetch at the end so that nobody waits is no more than the repository has in hand.
        assert s.hub.bytes_sent <= mix["http"] + AT_ONCE * PIECE
        metrics = scraped(s.b)
        assert {source: metrics[f"hali_received_bytes_total {source}"] for source in mix} == mix
        assert metrics["hali_pieces_total verified"] == piece_count(file.stat().st_size)
        assert metrics["hali_hashed_bytes_total"] >= file.stat().st_size
        assert metrics["hali_jobs_ended_total pull finished"] == metrics["hali_models seeding"] == 1


def scraped(of: TestNode) -> dict[str, float]:
    """What /metrics tells by the name and the label values of each sample; every family must be in the catalogue."""
    text = httpx.get(f"{of.status()['http']}/metrics").raise_for_status().text
    families = list(text_string_to_metric_families(text))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert names <= {family.name for family in told()}
    return {" ".join((s.name, *s.labels.values())): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("left", ["hub", "lan", "stranger"])
def test_two_of_three_sources_may_die_on_the_way(left: str, file: Path, tmp_path: Path) -> None:
    with three(file, tmp_path) as s:
        pulling = s.begin()
        until(lambda: len(s.b.on_record()) >= 2, "two pieces are there")
        if left != "hub":
            s.hub.faults.refuse = 404
        if left != "lan":
            s.lan.kill()
        if left != "stranger":
            s.stranger.leave()
        found = ended(pulling, s.b, file)
        assert sum(found["sources"].values()) == file.stat().st_size


def test_a_repository_that_sends_a_flipped_byte_does_not_spoil_what_the_lan_has(file: Path, tmp_path: Path) -> None:
    """Who of two is right only the SHA-256 of the whole can tell; the repository names it, so its server can be the liar."""
    with three(file, tmp_path) as s:
        s.hub.faults.flip_at = file.stat().st_size - 5
        s.hub.faults.rate = None
        found = ended(s.begin(), s.b, file)
        size = file.stat().st_size
        assert found["sources"].get("http", 0) <= size - size % PIECE  # the last piece is not the repository's


def test_a_node_that_comes_while_a_pull_from_the_repository_runs_joins_in(file: Path, tmp_path: Path) -> None:
    with FakeHub() as hub, node(tmp_path / "a") as a, node(tmp_path / "b", hf_endpoint=hub.url) as b:
        hub.add(REPO, {NAME: file})
        hub.faults.rate = RATE // 32  # each of eight connections: 35 s in all
        a.add(file)
        a.stop()
        b.start()
        pulling = b.start_hali("pull", REPO, "--json")
        until(lambda: b.events("incoming.opened"), "the pull has begun")
        a.start()
        found = ended(pulling, b, file)
        assert found["sources"]["lan"] > file.stat().st_size // 2
