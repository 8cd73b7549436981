"""A pull whose only honest source is a web seed or a node of the LAN, in a swarm of liars: a real daemon, each liar an address."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest
from anyio.from_thread import start_blocking_portal

from hali.hashing import hash_file
from hali.model.units import MIB, PIECE
from hali.transfer import metainfo
from tests.fakes.corrupt_peer import CorruptPeer, attackers
from tests.fakes.hf_server import FakeHub
from tests.fakes.torrents import KINDS, Sample, make
from tests.nodes import TestNode, flip, node, sha256_of, until

REPO, NAME = "owner/Lied-7B-GGUF", "Lied-7B-Q8_0.gguf"
RATE = 8_000_000  # bytes a second that the honest source has
LOST_S = 5.0  # the promise


@contextmanager
def attacking(liars: list[CorruptPeer], port: int) -> Iterator[None]:
    """They dial in again and again for the length of the block."""
    with start_blocking_portal() as portal:
        tasks = [portal.start_task_soon(liar.attack, "127.0.0.1", port) for liar in liars]
        yield
        for task in tasks:
            task.cancel()


def longest_silence(pulling: subprocess.Popen[str], brought: Callable[[], int], b: TestNode) -> float:
    """Seconds for which the honest source brought nothing, once it had begun and while the pull lacked bytes."""
    longest, last, since = 0.0, brought(), time.monotonic()
    while pulling.poll() is None:
        time.sleep(0.05)
        if (now := brought()) != last:
            last, since = now, time.monotonic()
        elif last and lacks_bytes(b):  # to check what is all there, and to end, is nobody's silence
            longest = max(longest, time.monotonic() - since)
    return longest


def lacks_bytes(b: TestNode) -> bool:
    """Whether its job has yet to get something."""
    return any(job["total"] is None or job["done"] < job["total"] for job in b.status()["jobs"])


def ordeal(
    b: TestNode, what: str, sample: Sample, count: int, brought: Callable[[], int], *, by_http: bool = False
) -> None:
    """`hali pull WHAT` among `count` liars; `brought()`: bytes of the honest source so far, by HTTP or from a peer."""
    size, liars = len(sample.content), attackers(sample, count, share=0.5)
    with attacking(liars, b.status()["torrent_port"]):
        pulling = b.start_hali("pull", what, "--quiet")
        silent_s = longest_silence(pulling, brought, b)
        said = pulling.communicate()
        assert pulling.returncode == 0, (said, b.log())
    received = b.call("stats")["down_total"] + (brought() if by_http else 0)
    print(
        f"received {received / MIB:.1f} MiB of a file of {size / MIB:.1f}, the honest one silent for {silent_s:.1f} s"
    )
    (found,) = b.call("models")["models"]
    assert sha256_of(Path(found["path"])) == found["sha256"] == sha256_of(sample.path)
    assert sum(liar.served for liar in liars) > 0, "nobody lied"
    assert received <= max(1.5 * size, size + 64 * MIB)
    assert silent_s <= LOST_S


@pytest.mark.parametrize("count", [9, pytest.param(49, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_web_seed_among_liars_brings_the_file(tmp_path: Path, kind: str, count: int) -> None:
    sample = make(tmp_path / "www", 40 * MIB, MIB, KINDS[kind], name=NAME)
    with FakeHub() as hub, node(tmp_path / "b", torrent_private_web_seeds="on", lan_enabled="off") as b:
        hub.add(REPO, {NAME: sample.path})
        hub.faults.rate = RATE // 8  # each of eight connections
        torrent: Any = lt.bdecode(sample.metainfo.raw)
        torrent[b"url-list"] = f"{hub.url}/{REPO}/resolve/main/{NAME}".encode()
        (tmp_path / "lied.torrent").write_bytes(bytes(lt.bencode(torrent)))
        b.start()
        ordeal(b, str(tmp_path / "lied.torrent"), sample, count, lambda: hub.bytes_sent, by_http=True)


@contextmanager
def an_honest_node(tmp_path: Path) -> Iterator[tuple[Sample, TestNode, TestNode]]:
    """What node `a` has, at RATE, as `lied`; and node `b`, which has heard of it."""
    path = tmp_path / NAME
    path.write_bytes(os.urandom(72 * MIB))
    sample = Sample(path, path.read_bytes(), metainfo.parse(metainfo.build(hash_file(path), NAME)))
    with node(tmp_path / "a", max_upload_mbps=str(RATE * 8 // 1_000_000)) as a, node(tmp_path / "b") as b:
        b.start()
        b.hears(a.add(path)["model_id"])
        yield sample, a, b


@pytest.mark.parametrize("count", [9, pytest.param(49, marks=pytest.mark.long)])
def test_an_honest_node_of_the_lan_among_liars_brings_the_file(tmp_path: Path, count: int) -> None:
    with an_honest_node(tmp_path) as (sample, a, b):
        ordeal(b, "lied", sample, count, lambda: int(a.call("stats")["up_total"]))


@pytest.mark.long  # what libtorrent writes over what comes down to chance: one of three such pulls met it
@pytest.mark.parametrize("pull", range(3))
def test_an_honest_node_that_stands_still_again_and_again_among_liars_brings_the_file(
    tmp_path: Path, pull: int
) -> None:
    with an_honest_node(tmp_path) as (sample, a, b):
        honest = a.status()["pid"]
        with attacking(attackers(sample, 9, share=0.5), b.status()["torrent_port"]):
            pulling = b.start_hali("pull", "lied", "--quiet")
            while pulling.poll() is None:
                os.kill(honest, signal.SIGSTOP)
                time.sleep(4.0)
                os.kill(honest, signal.SIGCONT)
                time.sleep(2.0)
            said = pulling.communicate()
        assert pulling.returncode == 0, (said, b.log())
        (found,) = b.call("models")["models"]
        assert sha256_of(Path(found["path"])) == found["sha256"] == sha256_of(sample.path)


def test_a_piece_that_is_written_over_after_it_was_checked_is_fetched_again(tmp_path: Path) -> None:
    with an_honest_node(tmp_path) as (sample, _, b):
        with attacking(attackers(sample, 9, share=0.5), b.status()["torrent_port"]):
            pulling = b.start_hali("pull", "lied", "--quiet")
            until(lambda: bool(b.on_record()), "a piece is on record")
            flip(b.incoming() / NAME, min(b.on_record()) * PIECE + 5)
            said = pulling.communicate()
        assert pulling.returncode == 0, (said, b.log())
        assert b.events("pull.overwritten")
        (found,) = b.call("models")["models"]
        assert sha256_of(Path(found["path"])) == found["sha256"] == sha256_of(sample.path)
