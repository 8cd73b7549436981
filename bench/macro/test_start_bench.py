"""P17: how long a person waits for a command that has nothing to do; whole processes, from fork to exit.

`python -c pass` is the same interpreter doing nothing: its time by hali's is a ratio that holds on any machine.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.versus import Work, versus
from tests.nodes import TestNode, node

HALI = (sys.executable, "-m", "hali.cli")  # not the script `hali`, which may belong to another checkout
BARE = "python -c pass"
Limited = Callable[[str, Sequence[str], int], None]


@pytest.fixture(scope="module")
def running() -> Iterator[TestNode]:
    """A node of its own, with a daemon; it has ended, and its folder is gone, when the module is through."""
    with tempfile.TemporaryDirectory(prefix="hali-bench-") as folder, node(Path(folder) / "home") as made:
        made.start()
        yield made


@pytest.fixture
def limited(benchmark: BenchmarkFixture, running: TestNode) -> Limited:
    """Times a command of hali in that node's environment against others, and keeps its milliseconds beside their limit."""

    def time_it(case: str, args: Sequence[str], limit_ms: int) -> None:
        command = [*HALI, *args]
        printed = subprocess.run(command, env=running.env, check=True, capture_output=True, text=True).stdout
        assert printed.startswith(("hali ", "Daemon running"))
        versus(benchmark, "P17", case, process(command, running.env), rivals())
        ours = benchmark.extra_info["seconds"]["hali"]
        benchmark.extra_info.update(milliseconds=[round(1e3 * each, 1) for each in ours], limit_ms=limit_ms)

    return time_it


def process(command: Sequence[str], env: dict[str, str] | None = None) -> Work:
    """One whole run of `command`, which must succeed; what it prints goes nowhere."""
    return partial(subprocess.run, command, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def rivals() -> dict[str, Work]:
    """The interpreter alone, and tools that also only tell their version, where they are installed."""
    found = {BARE: process([sys.executable, "-c", "pass"])}
    if importlib.util.find_spec("pip"):
        found["pip --version"] = process([sys.executable, "-m", "pip", "--version"])
    if git := shutil.which("git"):
        found["git --version"] = process([git, "--version"])
    return found


def test_version(limited: Limited) -> None:
    limited("hali --version", ["--version"], 120)


def test_daemon_status(limited: Limited) -> None:
    limited("hali daemon status", ["daemon", "status"], 200)
