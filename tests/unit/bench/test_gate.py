"""The gate refuses what is slow, what was not measured and what is misspelt; the report shows what was measured."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench import gate, report
from bench.charts import chart
from bench.gate import Floor, below, best_of, limits, verdicts
from bench.results import Results, Row, read

MACHINE: dict[str, Any] = {
    "backend": "sha1=sha-ni+avx512 sha256=sha-ni+avx512 blake3=avx512",
    "cores": 2,
    "form": "full",
    "processor": "A processor",
    "features": ["sha_ni"],
    "system": "Linux 6",
    "python": "3.11",
    "build": "release",
    "versions": {"numpy": "2"},
}


def row(ratio: float, *, name: str = "P1", case: str = "a case", rival: str = "hashlib", **more: Any) -> Row:
    return Row(
        name, case, rival, ratio, ratio - 0.1, ratio + 0.1, 0.01, 0.01 * ratio, 5, None, "bench/x.py::test", **more
    )


def results(*rows: Row, **machine: Any) -> Results:
    return Results("2026-01-02T03:04:05", {**MACHINE, **machine}, list(rows))


def good(found: Results, floor: Floor) -> list[bool]:
    return [verdict.good for verdict in verdicts(found, [floor])]


def test_a_ratio_must_reach_its_floor() -> None:
    floor = Floor("P1", "hashlib*", 2.0)
    assert good(results(row(2.0), row(3.0, rival="hashlib, mmap")), floor) == [True, True]
    assert good(results(row(1.99), row(9.0)), floor) == [False, True]


def test_a_floor_that_nothing_was_measured_for_fails() -> None:
    assert good(results(row(9.0)), Floor("P1", "mktorrent", 1.0)) == [False]
    assert good(results(row(9.0)), Floor("P1", "*", 1.0, case=["another", "one more"])) == [False]
    assert good(results(), Floor("P1", "*", 1.0)) == [False]


@pytest.mark.parametrize("other", [{"backend": "avx2"}, {"cores": 4}, {"form": "short"}])
def test_a_floor_of_other_machines_is_skipped(other: dict[str, Any]) -> None:
    (verdict,) = verdicts(results(row(0.5)), [Floor("P1", "*", 2.0, **other)])
    assert verdict.good
    assert verdict.text.startswith("skipped")


def test_a_row_counts_as_it_was_best_and_only_what_was_below_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "floors", lambda: [Floor("P1", "hashlib", 2.0)])
    first, second = results(row(1.5), row(3.0, rival="other")), results(row(2.5))
    assert below(first) == ["bench/x.py::test"]
    assert below(best_of([first, second])) == []
    assert {found.rival: found.ratio for found in best_of([first, second]).rows} == {"hashlib": 2.5, "other": 3.0}


def test_limits_are_in_milliseconds() -> None:
    found = limits(results(row(2.0, limit_ms=9.9), row(2.0, case="b", limit_ms=10.1), row(2.0, case="c")))
    assert [verdict.good for verdict in found] == [False, True]


def test_the_exit_status_is_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = gate.floors()
    fast = [
        row(floor.ratio + 1, name=floor.row, case=case.replace("*", "x"), rival=floor.rival.replace("*", "x"))
        for floor in wanted
        for case in ([floor.case] if isinstance(floor.case, str) else floor.case)
    ]
    for rows, status, says in (
        (fast, 0, "all"),
        ([fast[0]._replace(ratio=0.1), *fast[1:]], 1, "BELOW"),
        ([], 1, "MISSING"),
    ):
        results(*rows).save(tmp_path / "run.json")
        assert gate.main([str(tmp_path / "run.json")]) == status
        assert says in capsys.readouterr().out


def test_a_misspelt_floor_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "floors.toml").write_text('[[floor]]\nrow = "P1"\nrival = "*"\nratoi = 2\n')
    with pytest.raises(TypeError, match="ratoi"):
        gate.floors(tmp_path / "floors.toml")


def test_rows_are_medians_of_the_ratios_of_rounds(tmp_path: Path) -> None:
    seconds = {"hali": [1.0, 2.0, 1.0, 1.0, 1.0], "other": [3.0, 4.0, 2.0, 3.0, 3.0]}
    info = {"row": "P1", "case": "a", "size": 7, "seconds": seconds, "limit_ms": 5}
    run = {"datetime": "now", "machine_info": MACHINE, "benchmarks": [{"fullname": "f::t", "extra_info": info}]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (found,) = read(tmp_path / "run.json").rows
    assert (found.ratio, found.low, found.high) == (3.0, 2.0, 3.0)
    assert (found.hali_s, found.rival_s, found.rounds, found.test, found.limit_ms) == (1.0, 3.0, 5, "f::t", 5)
    read(tmp_path / "run.json").save(tmp_path / "kept.json")
    assert read(tmp_path / "kept.json") == read(tmp_path / "run.json")


def test_readme_shows_the_newest_results() -> None:
    kept = report.newest()
    text = (report.ROOT / "README.md").read_text()
    assert report.in_readme(text, read(kept), kept.stem) == text, "refresh it with: make bench"
    assert kept.with_suffix(".md").exists()


def test_the_table_names_floor_spread_and_limit() -> None:
    found = report.table(results(row(2.5, case="c", limit_ms=20)))
    assert "| P1 | c | hashlib | **2.50** (2.40 to 2.60) | 2 | 10 ms (limit 20 ms) | 25 ms | 5 |" in found


def test_a_chart_has_a_bar_for_each_rival_and_escapes_names() -> None:
    drawn = chart("P1", [row(2.5, rival="a<b"), row(0.4)], 2.0)
    assert drawn.count("<rect") == 3
    assert "a&lt;b" in drawn
    assert "floor 2×" in drawn


def test_every_limit_of_the_counts_is_counted() -> None:
    from bench.counts import work

    limits_file = Path(work.__file__).with_name("limits.toml")
    counted = {name for make in work.MAKERS for name in make()}
    assert set(tomllib.loads(limits_file.read_text())) == counted
