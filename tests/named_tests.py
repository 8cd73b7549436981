"""Tests by their names, for tables that claim something and point to the test that proves it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def tests_of(file: str) -> frozenset[str]:
    """Names of the tests in a file given from the project's root; empty if there is no such file."""
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    defined = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return frozenset(node.name for node in defined if node.name.startswith("test_"))


def is_test(node: str) -> bool:
    """True if `file::name` is a test. Parameters are not part of the name."""
    file, _, name = node.partition("::")
    return name in tests_of(file)
