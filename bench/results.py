"""What the benchmarks measured, as rows: read from pytest-benchmark's JSON, kept as our own."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """hali against one rival; `ratio` is the median over the rounds of the rival's time by hali's."""

    row: str  # of performance.md
    case: str
    rival: str
    ratio: float
    low: float  # the quartiles of the ratios: the spread
    high: float
    hali_s: float  # medians
    rival_s: float
    rounds: int
    size: int | None  # bytes one call works on
    test: str  # as pytest names it
    limit_ms: float | None = None  # what performance.md allows hali in milliseconds, for people

    @property
    def hali_ms(self) -> float:
        """hali's median in milliseconds."""
        return 1000 * self.hali_s

    @property
    def within_limit(self) -> bool:
        """Whether hali keeps its limit; true where there is none."""
        return self.limit_ms is None or self.hali_ms <= self.limit_ms


class Results(NamedTuple):
    """A run: when, on what, and its rows."""

    date: str  # ISO 8601, UTC
    machine: dict[str, Any]
    rows: list[Row]

    def save(self, path: Path) -> None:
        """Write JSON that `load` reads."""
        rows = [row._asdict() for row in self.rows]
        path.write_text(json.dumps({"date": self.date, "machine": self.machine, "rows": rows}, indent=1) + "\n")


def read(path: Path) -> Results:
    """What `Results.save` wrote, or a JSON file of pytest-benchmark as `bench.versus.versus` fills it."""
    found = json.loads(path.read_text())
    if "benchmarks" not in found:
        return Results(found["date"], found["machine"], [Row(**row) for row in found["rows"]])
    rows = [row for benchmark in found["benchmarks"] for row in _rows(benchmark["fullname"], benchmark["extra_info"])]
    rows.sort(key=lambda row: int(row.row[1:]))  # P1, P2, … as in performance.md
    return Results(found["datetime"], found["machine_info"], rows)


def _rows(test: str, info: dict[str, Any]) -> Iterator[Row]:
    seconds: dict[str, list[float]] = dict(info["seconds"])
    ours = seconds.pop("hali")
    for rival, theirs in seconds.items():
        ratios = [other / own for other, own in zip(theirs, ours, strict=True)]
        # a comparison that takes minutes may come as one pair of medians
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * ratios
        yield Row(
            info["row"],
            info["case"],
            rival,
            middle,
            low,
            high,
            statistics.median(ours),
            statistics.median(theirs),
            len(ours),
            info.get("size"),
            test,
            info.get("limit_ms"),
        )
