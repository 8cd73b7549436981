"""P4: a pull from one seeder, between hosts, over a link as fast as the kernel is and over one of 1 Gbit/s.

The clock runs from the first 256 KiB of the data to the client's word that all is there and checked, so nobody is charged
for how often it asks who is there. `cpu_s_per_gb` are medians of the processor seconds of hali and of each rival.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.macro.pulls import RIVALS, Took, pulls
from bench.versus import SHORT
from tests.net import netns

SIZE = 5 * 10**8
ROUNDS = 3
LINKS = {"unlimited link": None, "1 Gbit/s": 1000.0}

pytestmark = pytest.mark.skipif(SHORT, reason="P4 takes minutes: only the full form measures it")


@pytest.mark.parametrize("link", LINKS)
def test_pull(link: str, benchmark: BenchmarkFixture, file_of: Callable[[int], Path]) -> None:
    if (lacking := netns.missing()) is not None:
        pytest.skip(f"NO LAB on this machine, P4 was NOT measured: {lacking}")
    took: dict[str, list[Took]] = {name: [] for name in ("hali", *RIVALS)}
    with (
        tempfile.TemporaryDirectory(prefix="hali-bench-") as folder,
        pulls(file_of(SIZE), Path(folder), LINKS[link]) as made,
    ):

        def rivals() -> None:
            for kind in RIVALS:
                took[kind].append(made.by_rival(kind))

        made.by_hali()  # the seeder has read its file then
        benchmark.group = f"P4 500 MB, {link}"
        benchmark.pedantic(lambda: took["hali"].append(made.by_hali()), setup=rivals, rounds=ROUNDS)
    benchmark.extra_info.update(
        row="P4",
        case=f"500 MB, {link}",
        size=SIZE,
        seconds={name: [each.wall for each in all_of] for name, all_of in took.items()},
        cpu_s_per_gb={name: round(median(each.cpu for each in all_of), 2) for name, all_of in took.items()},
    )
