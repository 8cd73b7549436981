"""`python -m bench.gate RUN.json… [--limits]`: exit 1 when a ratio is below its floor, or a floor finds no row.

Of several runs each row counts as it was best; `--below` prints instead which tests to measure again. Ratios are
measured in one run, so the gate may judge them on any machine. `--limits` adds the milliseconds of performance.md,
which hold for a quiet machine like the one of the results shown in README.
"""

from __future__ import annotations

import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from bench.results import Results, Row, read

FLOORS = Path(__file__).with_name("floors.toml")


class Floor(NamedTuple):
    """One entry of floors.toml."""

    row: str
    rival: str
    ratio: float
    case: str | list[str] = "*"
    backend: str | None = None
    cores: int = 1
    form: str | None = None

    def holds_on(self, machine: dict[str, Any]) -> bool:
        """Whether the machine is one that the floor speaks of."""
        backend = f"sha1={self.backend}" if self.backend else ""
        form = self.form in (None, machine["form"])
        return form and str(machine["backend"]).startswith(backend) and int(machine["cores"]) >= self.cores

    def fits(self, row: Row) -> bool:
        """Whether the row is one that the floor speaks of."""
        cases = [self.case] if isinstance(self.case, str) else self.case
        right = row.row == self.row and any(fnmatchcase(row.case, case) for case in cases)
        return right and fnmatchcase(row.rival, self.rival)


class Verdict(NamedTuple):
    """A line of the gate's answer."""

    good: bool
    text: str


def floors(path: Path = FLOORS) -> list[Floor]:
    """All floors; TypeError for a misspelt key."""
    return [Floor(**entry) for entry in tomllib.loads(path.read_text())["floor"]]


def verdicts(results: Results, wanted: list[Floor]) -> list[Verdict]:
    """What each floor says of the results."""
    found: list[Verdict] = []
    for floor in wanted:
        name = f"{floor.row} {floor.case} against {floor.rival}"
        if not floor.holds_on(results.machine):
            found.append(Verdict(True, f"skipped {name}: not for this machine or form"))
            continue
        rows = [row for row in results.rows if floor.fits(row)]
        if not rows:
            found.append(Verdict(False, f"MISSING {name}: nothing measured"))
        found.extend(_verdict(row, floor) for row in rows)
    return found


def _verdict(row: Row, floor: Floor) -> Verdict:
    good = row.ratio >= floor.ratio
    word = "ok" if good else "BELOW"
    spread = f"{row.low:.2f} to {row.high:.2f}"
    return Verdict(
        good, f"{word} {row.row} {row.case} / {row.rival}: {row.ratio:.2f}× ({spread}), floor {floor.ratio}×"
    )


def limits(results: Results) -> list[Verdict]:
    """What the limits in milliseconds say of the results."""
    told = {(row.row, row.case): row for row in results.rows if row.limit_ms is not None}
    return [
        Verdict(
            row.within_limit,
            f"{'ok' if row.within_limit else 'OVER'} {row.row} {row.case}: {row.hali_ms:.1f} ms, limit {row.limit_ms:.0f} ms",
        )
        for row in told.values()
    ]


def best_of(runs: list[Results]) -> Results:
    """The first run, with each row as the run showed it in which it did best: the others were disturbed."""
    rows: dict[tuple[str, str, str], Row] = {}
    for row in (row for run in runs for row in run.rows):
        key = (row.row, row.case, row.rival)
        rows[key] = max(rows.get(key, row), row, key=lambda r: r.ratio)
    return runs[0]._replace(rows=list(rows.values()))


def below(results: Results) -> list[str]:
    """Which tests measured what is below its floor, as pytest names them."""
    bad = {row.test for floor in floors() if floor.holds_on(results.machine) for row in results.rows
           if floor.fits(row) and row.ratio < floor.ratio}  # fmt: skip
    return sorted(bad)


def main(arguments: list[str]) -> int:
    """Print the verdicts; the exit status."""
    options = {argument for argument in arguments if argument.startswith("--")}
    files = [Path(argument) for argument in arguments if argument not in options]
    if not files or options - {"--limits", "--below"}:
        raise SystemExit(__doc__)
    results = best_of([read(file) for file in files])
    if "--below" in options:
        print("\n".join(below(results)))
        return 0
    found = verdicts(results, floors()) + (limits(results) if "--limits" in options else [])
    for verdict in found:
        print(verdict.text)
    bad = sum(not verdict.good for verdict in found)
    print(f"bench gate: {bad} of {len(found)} failed" if bad else f"bench gate: all {len(found)} hold")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
