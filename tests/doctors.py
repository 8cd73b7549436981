"""Tests of `hali doctor`: reports by id, and fixes run as they are printed, by a shell in which `hali` is the command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.nodes import TestNode

Report = dict[str, dict[str, Any]]
EXIT_CODES = {"ok": 0, "skip": 0, "warn": 1, "fail": 2}


def with_command(node: TestNode, folder: Path) -> TestNode:
    """The same node, whose shells find `hali` first in `folder`."""
    folder.mkdir(exist_ok=True)
    command(folder, "hali", f'exec "{sys.executable}" -m hali.cli "$@"')
    node.env["PATH"] = f"{folder}{os.pathsep}{node.env['PATH']}"
    return node


def command(folder: Path, name: str, body: str) -> None:
    """A program of this name in `folder`."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def examine(node: TestNode, *options: str, **env: str) -> Report:
    """The checks of `hali doctor --json` by id; the exit code and the sums must be those of the worst and of all."""
    node.env.update(env)
    done = node.hali("doctor", "--json", *options)
    for name in env:
        del node.env[name]
    report = json.loads(done.stdout)
    rows = report["checks"]
    assert done.returncode == max(EXIT_CODES[row["status"]] for row in rows), done.stdout + done.stderr
    assert report["ok"] is (done.returncode == 0)
    assert report["summary"] == {s: sum(row["status"] == s for row in rows) for s in ("ok", "warn", "fail", "skip")}
    assert [row["id"] for row in rows if row["status"] == "fail" and not row["fix"]] == []
    return {row["id"]: row for row in rows}


def statuses(report: Report) -> dict[str, str]:
    """Status by id."""
    return {name: row["status"] for name, row in report.items()}


def only(node: TestNode, healthy: Report, broken: str, *options: str, **env: str) -> str:
    """Look again: `broken` fails, all others are as on the `healthy` node. The fix."""
    found = examine(node, *options, **env)
    expected = {**statuses(healthy), broken: "fail"}
    odd = [row for name, row in found.items() if row["status"] != expected[name]]
    assert odd == [], odd
    return str(found[broken]["fix"])


def follow(node: TestNode, fix: str, stdin: str = "") -> None:
    """Run a fix as it is written."""
    done = node.shell(fix, stdin)
    assert done.returncode == 0, f"{fix}: exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{node.log()}"


def healthy_again(node: TestNode, *options: str) -> None:
    """Nothing fails and nothing warns."""
    found = examine(node, *options)
    assert [row for row in found.values() if row["status"] not in ("ok", "skip")] == []
