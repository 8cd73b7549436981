"""One comparison: hali and its rivals in turn, round by round, so that a drift of the machine hits all of them alike.

pytest-benchmark times hali's rounds and writes the JSON; before each round every rival is timed once. The ratio of a
round is the rival's time by hali's; `bench/report.py` takes the median of the rounds and `bench/gate.py` compares it
with `bench/floors.toml`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from pytest_benchmark.fixture import BenchmarkFixture

SHORT = os.environ.get("HALI_BENCH") == "short"
"""CI's form: fewer rounds and sizes, the same rivals and floors."""

ROUNDS = 7 if SHORT else 15
ROUND_S = 0.02  # a round of a fast function is repeated up to this: the clock's step and a stray interrupt then vanish
MOST_CALLS = 20_000

Work = Callable[[], object]
Told = Callable[[], float]


def versus(
    benchmark: BenchmarkFixture,
    row: str,
    case: str,
    subject: Work,
    rivals: Mapping[str, Work],
    *,
    size: int | None = None,
    rounds: int = ROUNDS,
) -> None:
    """Time `subject` (hali) and `rivals`, each doing all of the same work; at least five rounds.

    `row` is the row of performance.md ("P8"), `case` what exactly ("q8_0 16×4096"), `size` the bytes that one call
    works on, for people. Who writes the test proves first that all of them give the same result.
    """
    works = {"hali": subject, **rivals}
    calls = {name: _calls(work) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}

    def timed(name: str) -> None:
        work, count = works[name], calls[name]
        if count == 1:
            work()  # what the one before left behind (threads ending, memory given back) is not for this one to pay
        began = time.perf_counter()
        for _ in range(count):
            work()
        seconds[name].append((time.perf_counter() - began) / count)

    def rivals_turn() -> None:
        for name in rivals:
            timed(name)

    benchmark.group = f"{row} {case}"
    benchmark.pedantic(timed, args=("hali",), setup=rivals_turn, rounds=max(rounds, 5))
    benchmark.extra_info.update(row=row, case=case, size=size, seconds=seconds)


def versus_told(
    benchmark: BenchmarkFixture, row: str, case: str, subject: Told, rivals: Mapping[str, Told], *, rounds: int = 5
) -> None:
    """As `versus`, for works that tell the seconds themselves: of a part of what they do, or measured by their client."""
    works = {"hali": subject, **rivals}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()  # loads, and fills caches

    def timed(name: str) -> None:
        seconds[name].append(works[name]())

    def rivals_turn() -> None:
        for name in rivals:
            timed(name)

    benchmark.group = f"{row} {case}"
    benchmark.pedantic(timed, args=("hali",), setup=rivals_turn, rounds=rounds)
    benchmark.extra_info.update(row=row, case=case, size=None, seconds=seconds)


def _calls(work: Work) -> int:
    """How often a round calls `work`; this is also the warm-up."""
    work()
    began = time.perf_counter()
    work()
    return min(max(int(ROUND_S / max(time.perf_counter() - began, 1e-9)), 1), MOST_CALLS)
