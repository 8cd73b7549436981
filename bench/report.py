"""`python -m bench.report RUN.json`: keeps a run under bench/results (JSON, Markdown, SVG) and shows it in README."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path

from bench.charts import chart
from bench.gate import Floor, floors
from bench.results import Results, Row, read

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- bench: written by make bench -->", "<!-- /bench -->"


def newest() -> Path:
    """The JSON of the newest kept run."""
    return max(RESULTS.glob("*.json"))


def floor_of(row: Row, wanted: list[Floor]) -> float | None:
    """The floor of a row; None for a comparison that is only shown."""
    return max((floor.ratio for floor in wanted if floor.fits(row)), default=None)


def head(results: Results) -> str:
    """One paragraph: on what and with what."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{results.date[:10]}, {machine['processor']} ({', '.join(machine['features'])}), {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}, {machine['build']} build, {machine['backend']}; {versions}; "
        f"{machine['form']} form."
    )


def table(results: Results) -> str:
    """Every row with its spread, and the floor where there is one."""
    wanted = floors()
    lines = [
        "| | case | rival | times faster (quartiles) | floor | hali | rival takes | rounds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results.rows:
        floor = floor_of(row, wanted)
        limit = f" (limit {row.limit_ms:.0f} ms)" if row.limit_ms is not None else ""
        lines.append(
            f"| {row.row} | {row.case} | {row.rival} | **{row.ratio:.2f}** ({row.low:.2f} to {row.high:.2f}) | "
            f"{f'{floor:g}' if floor else '–'} | {seconds(row.hali_s)}{limit} | {seconds(row.rival_s)} | {row.rounds} |"
        )
    return "\n".join(lines)


def summary(results: Results) -> str:
    """What README shows: for each row of performance.md and each case, the best rival that has a floor."""
    wanted = floors()
    lines = ["| | case | best rival with a floor | times faster | floor |", "|---|---|---|---|---|"]
    for (name, case), rows in groupby(results.rows, key=lambda row: (row.row, row.case)):
        judged = [(row, floor) for row in rows if (floor := floor_of(row, wanted)) is not None]
        # the tightest one: nearest to its floor
        if judged:
            row, floor = min(judged, key=lambda pair: pair[0].ratio / pair[1])
            limit = f", {row.hali_ms:.1f} ms of {row.limit_ms:.0f} ms" if row.limit_ms is not None else ""
            lines.append(f"| {name} | {case} | {row.rival} | {row.ratio:.2f}{limit} | {floor:g} |")
    return "\n".join(lines)


def seconds(value: float) -> str:
    """`0.00123` → `1.23 ms`."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def in_readme(text: str, results: Results, name: str) -> str:
    """README's text with the newest table between its marks."""
    block = f"{BEGIN}\n{summary(results)}\n\n{head(results)} All rivals: [bench/results/{name}.md](bench/results/{name}.md).\n{END}"
    changed, count = re.subn(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: block, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"README.md has not exactly one {BEGIN} … {END}")
    return changed


def keep(results: Results) -> Path:
    """Write the files of a run and README; the path of the Markdown table."""
    RESULTS.mkdir(exist_ok=True)
    name = results.date[:10]
    results.save(RESULTS / f"{name}.json")
    wanted, charts = floors(), []
    for row_name, rows in groupby(results.rows, key=lambda row: row.row):
        shown = list(rows)
        floor = min((f.ratio for f in wanted if f.row == row_name), default=None)
        (RESULTS / f"{name}-{row_name}.svg").write_text(chart(row_name, shown, floor))
        charts.append(f"![{row_name}]({name}-{row_name}.svg)")
    text = [f"# Measured {name}", head(results), table(results), *charts]
    path = RESULTS / f"{name}.md"
    path.write_text("\n\n".join(text) + "\n")
    readme = ROOT / "README.md"
    readme.write_text(in_readme(readme.read_text(), results, name))
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(f"wrote {keep(read(Path(sys.argv[1]))).relative_to(ROOT)}, its JSON and charts, and the table in README.md")
