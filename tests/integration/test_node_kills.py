"""`kill -9` at random moments of a pull: it always ends right, and costs no more than the pieces in flight.

A few moments in CI; a hundred with `make test-long`. HALI_KILL_SEED chooses other ones.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from hali.hashing import hash_file
from hali.model.units import BLOCK, MIB, PIECE
from hali.share.division import AT_ONCE
from hali.transfer import metainfo
from tests.fakes import plain_client
from tests.fakes.hf_server import FakeHub
from tests.fakes.plain_client import PlainSeeder
from tests.nodes import TestNode, node, random_file, sha256_of, until

REPO = "owner/Killed-7B-GGUF"
NAME = "Killed-7B-Q4_0.gguf"
RATE = 50_000_000  # bytes a second of each source
SEED = os.environ.get("HALI_KILL_SEED", "1")
BUFFERS = 16 * MIB  # what sockets hold when the daemon dies: sent, never read


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_file(tmp_path_factory.mktemp("files") / NAME, 200)


class Life:
    """From one start of the daemon to its death: what was sent to it."""

    def __init__(self, hub: FakeHub, stranger: PlainSeeder) -> None:
        self._hub, self._stranger = hub, stranger
        self._asked, self._sent = len(hub.ranges()), hub.bytes_sent
        self._blocks = stranger.served()[:0]

    def sent(self) -> int:
        """Bytes of the file, from both."""
        self._blocks += self._stranger.served()
        return self._hub.bytes_sent - self._sent + len(self._blocks) * BLOCK

    def pieces(self) -> set[int]:
        """Pieces that somebody sent some of."""
        self.sent()
        spans = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in self._hub.ranges()[self._asked :]]
        asked = {piece for first, last in spans for piece in range(first // PIECE, last // PIECE + 1)}
        return asked | {piece for piece, _ in self._blocks}


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.long)])
@pytest.mark.parametrize("way", ["hub", "hub and swarm"])
def test_a_pull_killed_at_random_moments_fetches_no_finished_piece_again(
    way: str, kills: int, file: Path, tmp_path: Path
) -> None:
    chance, size = random.Random(f"{SEED} {way}"), file.stat().st_size
    torrent = metainfo.build(hash_file(file), NAME)
    lan = "on" if way == "hub and swarm" else "off"
    with (
        FakeHub() as hub,
        node(tmp_path / "a", max_upload_mbps=str(RATE * 8 // 1_000_000)) as a,
        node(tmp_path / "b", hf_endpoint=hub.url, lan_enabled=lan) as b,
        plain_client.seeder(torrent, file.parent, rate=RATE, address="127.0.0.77") as stranger,
    ):
        hub.add(REPO, {NAME: file})
        hub.faults.rate = RATE // 8  # each connection
        if lan == "on":
            a.add(file)
        known: set[int] = set()
        while kills:
            life = Life(hub, stranger)
            begin(b, a if lan == "on" else None, stranger)
            goal = chance.uniform(0.0, 0.5) * size
            until(lambda life=life, goal=goal: life.sent() >= goal or not b.status()["jobs"], "it is time")
            b.kill()
            if not any((b.paths.models() / ".incoming").iterdir()):  # it ended before the kill
                b.start()
                b.idle()
                b.call("rm", model=b.call("models")["models"][0]["sha256"])
                b.stop()
                known = set()
                continue
            kills -= 1
            until(stranger.is_alone, "the stranger has seen the end")
            now = b.on_record()
            assert now >= known and not life.pieces() & known
            if lan == "off":  # of the node on the LAN nobody knows what it sent
                assert life.sent() - len(now - known) * PIECE <= AT_ONCE * PIECE + BUFFERS
            known = now
        begin(b, None, stranger)
        b.idle()
        (found,) = b.call("models")["models"]
        assert (found["state"], sha256_of(Path(found["path"]))) == ("seeding", sha256_of(file))


def begin(b: TestNode, a: TestNode | None, stranger: PlainSeeder) -> None:
    """Start the daemon, which goes on by itself; a pull that nobody waits for if there is none."""
    b.start()
    if not b.status()["jobs"]:
        if a is not None:
            b.hears("killed:7b:base:q4_0")
        with b.client() as client:
            for kind, _ in client.stream("pull", what=REPO):
                if kind == "event":
                    break
    if a is not None:
        stranger.dial("127.0.0.1", b.status()["torrent_port"])
