"""P18: a daemon that seeds a hundred models and has nothing to do, and qBittorrent with the same hundred torrents."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.net.clients import QBittorrent, client
from tests.net.lab import LabNode, lab
from tests.nodes import random_file, until

pytestmark = [pytest.mark.net, pytest.mark.long, pytest.mark.alone]  # processor time of who has nothing to do

MODELS = 100
MOST_RSS = 120e6  # bytes; the design's, without an engine
MOST_CPU = 0.01  # of a core
LOOK_S = 30.0  # long enough for every timer of both, announcements included, to have fired


def rss(processes: list[psutil.Process]) -> int:
    """Bytes in memory, shared ones counted."""
    return sum(process.memory_info().rss for process in processes)


def cpu_s(processes: list[psutil.Process]) -> float:
    """Processor seconds so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def states(node: LabNode) -> list[str]:
    """Of all its models."""
    return [row["status"] for row in node.status()["seeding"]]


def seeded(theirs: QBittorrent) -> int:
    """How many torrents it has looked at and seeds."""
    return sum(torrent["state"] in theirs.SEEDING for torrent in theirs.torrents())


def test_an_idle_daemon_with_a_hundred_models_is_small_and_quiet(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with lab(tmp_path) as lan:
        node = lan.node("a")
        files = [random_file(tmp_path / "src" / f"Idle{i}-7B-Q4_0.gguf", 1, seed=i) for i in range(MODELS)]
        for file in files:
            node.add(file)
        node.restart()
        until(lambda: states(node) == MODELS * ["seeding"], "hali seeds them all")
        with client("qbittorrent", lan.host("q"), tmp_path / "q") as theirs:
            for row in node.status()["seeding"]:  # one torrent of each; hali seeds its v1 twin too
                theirs.add(node.paths.torrents / f"{row['infohash_v1']}.torrent", files[0].parent, complete=True)
            for count in range(10, MODELS + 1, 10):  # it looks at one after the other, and each ten have their time
                until(lambda count=count: seeded(theirs) >= count, f"qBittorrent seeds {count}")  # type: ignore[misc]
            both = {"hali": node.processes(), "qbittorrent": theirs.processes()}
            before = {name: cpu_s(processes) for name, processes in both.items()}
            time.sleep(LOOK_S)  # what is measured is how little happens in it
            used = {name: (cpu_s(processes) - before[name]) / LOOK_S for name, processes in both.items()}
            held = {name: rss(processes) for name, processes in both.items()}
        for name in both:
            record_property(f"rss_mb_{name}", round(held[name] / 1e6, 1))
            record_property(f"cpu_percent_{name}", round(100 * used[name], 3))
        print({name: f"{held[name] / 1e6:.1f} MB, {100 * used[name]:.2f} % of a core" for name in both})
        assert held["hali"] <= MOST_RSS
        assert used["hali"] < MOST_CPU
