"""`python -m bench.counts [--write]`: instructions of the hot paths, counted by callgrind, against limits.toml.

Counts do not depend on what else the machine does, so a loop that lost its vectors shows at once; they depend on the
compiler a little, hence the tolerance. callgrind hides AVX-512 and the SHA instructions: what is counted is AVX2.
Each path runs in two processes, a few times more in one than in the other, and the difference counts: what Python needs
to start drops out. `--write` keeps what was counted as the new limits.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.counts.work import MAKERS

LIMITS = Path(__file__).with_name("limits.toml")
TOLERANCE = 1.25  # between compilers a path differs by less; a loop without vectors takes several times as many
FEW, MANY = 1, 4


def instructions(name: str, times: int) -> int:
    """All instructions of a process that runs a path so many times."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += ["-m", "bench.counts.work", name, str(times)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # hash collisions of dictionaries would vary
    environment.pop("HALI_HASH_BACKEND", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return int(found[1])


def per_item(name: str, items: int) -> float:
    """Instructions of one item of a path."""
    return (instructions(name, MANY) - instructions(name, FEW)) / (MANY - FEW) / items


def counted() -> dict[str, tuple[float, str]]:
    """Every path's instructions and the unit they are counted by."""
    works = {name: work for make in MAKERS for name, work in make().items()}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(lambda name: per_item(name, works[name].items), works)
        return {name: (count, works[name].unit) for name, count in zip(works, found, strict=True)}


def main(arguments: list[str]) -> int:
    """Print each path; 1 when one takes more than its limit allows."""
    if not shutil.which("valgrind"):
        raise SystemExit("bench.counts: valgrind not found: apt-get install valgrind")
    found = counted()
    if arguments == ["--write"]:
        head = "# Instructions an item as counted; python -m bench.counts allows a quarter more, and --write renews them.\n\n"
        LIMITS.write_text(
            head + "".join(f'"{name}" = {count:.2f} # a {unit}\n' for name, (count, unit) in found.items())
        )
    limits = tomllib.loads(LIMITS.read_text())
    bad = 0
    for name, (count, unit) in found.items():
        limit = TOLERANCE * limits[name]
        bad += count > limit
        print(f"{'TOO MANY' if count > limit else 'ok'} {name}: {count:.2f} instructions a {unit}, at most {limit:.2f}")
    if missing := set(limits) - set(found):
        raise SystemExit(f"bench.counts: limits for what is not counted: {', '.join(sorted(missing))}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
