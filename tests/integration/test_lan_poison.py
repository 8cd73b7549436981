"""Neighbours that lie about what they have: their files are never taken for those that were asked for."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hali.config.identity import Identity
from hali.model.ids import InfoHashes
from hali.transfer.lan import LanAnnouncer, LanModel, LanOptions
from hali.transfer.lan_net import GROUP4
from tests.fakes.hf_server import FakeHub
from tests.nodes import LAN_PORT, TestNode, node, pair, random_file, sha256_of, until

FILE = "Good-1B-Q8_0.gguf"
ID = "good:1b:base:q8_0"


@asynccontextmanager
async def announced(model: LanModel, torrent_port: int) -> AsyncIterator[None]:
    """A node that says it has this model, and that its torrents are at that port."""
    liar = LanAnnouncer(Identity(Ed25519PrivateKey.generate()), LanOptions(port=LAN_PORT), lambda: torrent_port)
    liar.set_models([model])
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: liar.run(task_status=task_status))
        yield
        group.cancel_scope.cancel()


def lie(promised: str, poison: dict[str, Any]) -> LanModel:
    """The poisoned file's torrent under the promised SHA-256."""
    return LanModel(ID, promised, InfoHashes(poison["infohash_v1"], poison["infohash_v2"]), poison["size"])


def hears_of(each: TestNode, sha256: str) -> None:
    """Wait until the daemon believes that somebody has that file."""
    until(lambda: sha256[:32] in [row["sha256_prefix"] for row in each.status()["lan"]], "the lie is heard")


def holdings(each: TestNode) -> list[str]:
    """SHA-256 of all finished files in the store, whatever it says of them."""
    return [sha256_of(path) for path in each.paths.models().rglob("*.gguf") if ".incoming" not in path.parts]


@pytest.mark.blocking_ok
async def test_a_poisoned_file_under_a_known_name_and_hash_is_not_taken_when_the_hub_tells_the_hash(
    tmp_path: Path,
) -> None:
    good, bad = random_file(tmp_path / "good" / FILE, 1, 1), random_file(tmp_path / "bad" / FILE, 1, 2)
    with FakeHub() as hub, node(tmp_path / "a") as a, node(tmp_path / "b", hf_endpoint=hub.url) as b:
        hub.add("o/r", {FILE: good.read_bytes()})
        port = a.start()["torrent_port"]
        b.start()
        poison = a.add(bad)
        async with announced(lie(sha256_of(good), poison), port):
            await anyio.to_thread.run_sync(hears_of, b, sha256_of(good))
            hub.faults.refuse = 404  # so that the liar's is the only file to be had
            done = await anyio.to_thread.run_sync(b.hali, "pull", f"o/r/{FILE}")
            assert done.returncode == 3, (
                done,
                b.log(),
            )  # all of it came and was seen to be wrong; then nothing is left
            assert b.events("pull.sources_disagree")
            assert sha256_of(bad) not in holdings(b)
            hub.faults.refuse = None
            pulled = await anyio.to_thread.run_sync(b.pull, f"o/r/{FILE}")
        assert pulled["sha256"] == sha256_of(Path(pulled["path"])) == sha256_of(good)
        assert holdings(b) == [sha256_of(good)]


@pytest.mark.blocking_ok
async def test_a_poisoned_file_is_not_taken_for_the_hash_that_the_user_typed(tmp_path: Path) -> None:
    promised = sha256_of(random_file(tmp_path / "good" / FILE, 1, 1))
    with pair(tmp_path) as (a, b):
        poison = a.add(random_file(tmp_path / "bad" / FILE, 1, 2))
        async with announced(lie(promised, poison), a.status()["torrent_port"]):
            await anyio.to_thread.run_sync(hears_of, b, promised)
            for what in (promised, promised[:32]):
                done = await anyio.to_thread.run_sync(b.hali, "pull", what)
                assert done.returncode == 5, (done, b.log())
                assert holdings(b) == []


def test_two_nodes_with_different_files_under_one_name_make_it_ambiguous(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, c), node(tmp_path / "puller") as b:
        b.start()
        files = [each.add(random_file(tmp_path / str(n) / FILE, 1, n)) for n, each in enumerate((a, c))]
        assert files[0]["model_id"] == files[1]["model_id"] == ID
        for file in files:
            hears_of(b, file["sha256"])
        done = b.hali("pull", ID)
        assert done.returncode == 2, done
        assert {line.split()[2].rstrip("…)") for line in done.stderr.splitlines()[1:3]} == {
            file["sha256"][:12] for file in files
        }
        assert json.loads(b.hali("pull", ID, "--json").stdout.splitlines()[-1])["error"]["code"] == "ambiguous"
        assert holdings(b) == []
        assert b.pull(files[1]["sha256"])["sha256"] == files[1]["sha256"]


def test_a_node_of_the_existing_hali_is_listed_and_a_source_for_its_infohash_but_never_for_a_name(
    tmp_path: Path,
) -> None:
    with pair(tmp_path, lan_enabled="off") as (a, _), node(tmp_path / "puller") as b:
        b.start()
        added = a.add(random_file(tmp_path / FILE, 1))
        one = {"id": ID, "ih": added["infohash_v1"]}
        packet = {"v": "1", "nid": "n" * 64, "p": a.status()["torrent_port"], "models": [one]}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
            old.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            old.sendto(json.dumps(packet | {"ts": int(time.time())}).encode(), (GROUP4, LAN_PORT))
        b.hears(ID)
        assert b.hali("pull", ID).returncode == 3
        assert b.pull(added["infohash_v1"])["sha256"] == added["sha256"]
