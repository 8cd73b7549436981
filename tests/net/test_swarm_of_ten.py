"""Several nodes pull one model at once from the only one that has it: it sends little more than one copy, and they share out the rest."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.fluid_swarm import Took
from tests.net.lab import LabNode, lab
from tests.nodes import MIB, random_file

pytestmark = [
    pytest.mark.net,
    pytest.mark.alone,
]  # shares of a link, judged; a daemon that waits for a core spoils them


def pulled_by(folder: Path, pullers: int, mib: int, rate_mbit: float) -> Took:
    """All of them begin at the same moment; each checks the SHA-256 of what it gets. Headers and all count for copies."""
    with lab(folder, rate_mbit) as lan:
        origin, *others = nodes = [lan.node(f"n{i}") for i in range(pullers + 1)]
        for node in nodes:
            node.launch()
        for node in nodes:
            node.ready()
        model = origin.add(random_file(folder / "Shared-7B-Q8_0.gguf", mib))
        for node in others:
            node.hears(model["model_id"])
        before, began = origin.host.traffic().sent, time.monotonic()
        ends = in_parallel(others, model["sha256"])
        sent = origin.host.traffic().sent - before
    one_copy = mib * MIB / (rate_mbit * 125_000)
    took = Took(sent / (mib * MIB), (max(ends) - began) / one_copy)
    print(
        f"\n{pullers} nodes, {mib} MiB, {rate_mbit:.0f} Mbit/s: {took.copies:.3f} copies, {took.times:.2f} times one copy"
    )
    return took


def in_parallel(nodes: list[LabNode], sha256: str) -> list[float]:
    """When each had it."""
    ends: dict[int, float] = {}

    def pull(number: int) -> None:
        assert nodes[number].pull(sha256)["sha256"] == sha256
        ends[number] = time.monotonic()

    threads = [threading.Thread(target=pull, args=(i,)) for i in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == len(nodes), "each of them has it"
    return list(ends.values())


def test_three_that_pull_at_once_take_little_more_than_one_copy_from_the_one_that_has_it(tmp_path: Path) -> None:
    # Every byte that comes before they know of each other may come three times: half a second of it on a quiet machine.
    assert pulled_by(tmp_path, pullers=3, mib=96, rate_mbit=50).copies < 1.4


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is enough: ten real nodes do not write to one disk."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shutil.disk_usage(shared).free < 12 * 1024 * MIB:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="hali-nine-", dir=shared) as folder:
        yield Path(folder)


@pytest.mark.long
def test_nine_that_pull_at_once_take_one_copy_from_the_one_that_has_it(memory: Path) -> None:
    took = pulled_by(memory, pullers=9, mib=1024, rate_mbit=50)
    assert took.copies < 1.05  # 1.03 in three runs, what TCP sends again among it
    assert took.times < 1.5  # 1.35 to 1.37 in three runs; a node alone takes 1.05
