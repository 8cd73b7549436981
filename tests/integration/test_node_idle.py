"""What a daemon costs that seeds models and has nothing to do. The long form, beside qBittorrent: tests/net/test_idle.py."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from tests.nodes import node, random_file, until

MODELS = 10
MOST_RSS = 120e6  # bytes without an engine, whatever the machine (performance.md, P18: with ten times the models)
LOOK_S = 2.0
MOST_WAKES = 30  # a second, of all threads; 13 of them are usual, ten of those libtorrent's


def wakes(process: psutil.Process) -> int:
    """How often its threads have gone to sleep and been woken so far."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def rate(process: psutil.Process) -> float:
    """Wakes a second, over a while."""
    before, began = wakes(process), time.monotonic()
    time.sleep(LOOK_S)  # what is measured is how little happens in it
    return (wakes(process) - before) / (time.monotonic() - began)


def test_a_daemon_that_only_seeds_is_small_and_sleeps(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        for i in range(MODELS):
            a.add(random_file(tmp_path / "src" / f"Idle{i}-7B-Q4_0.gguf", 1, seed=i))
        a.restart()
        until(lambda: [row["status"] for row in a.status()["seeding"]] == MODELS * ["seeding"], "all are seeded")
        daemon = psutil.Process(a.pid())
        assert daemon.memory_info().rss <= MOST_RSS
        # What a start leaves to do (a second torrent of each model, announcements) is done sometime; timers go on for ever.
        until(lambda: rate(daemon) <= MOST_WAKES, "the daemon sleeps")
