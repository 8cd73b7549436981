"""The house (ARCHITECTURE.md): imports go upwards only, wherever in a file they stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import hali

SOURCE = Path(hali.__file__).parent

# Packages on one line do not see each other.
HOUSE = [
    ("model",),
    ("_native", "runtime", "config"),
    ("hashing", "wire"),
    ("store", "transfer", "swarm", "engine"),
    ("share", "placement", "pipeline", "credit"),
    ("relay", "registry", "api", "export"),
    ("daemon", "service"),
    ("cli",),
]
FLOOR = {package: floor for floor, packages in enumerate(HOUSE) for package in packages}

# Native libraries that can take the process down or block it: one package knows each.
ONLY_IN = {"libtorrent": "transfer", "llama_cpp": "engine"}

# The composition root is the one file that may know all concrete classes, its own floor's included.
ROOT = "daemon/node.py"
# Seen by all: the version is read by everything that introduces itself.
GROUND = {"_version"}


class Import(NamedTuple):
    """One imported module and where it is asked for."""

    line: int
    module: str


def imports(source: str, package: str) -> Iterator[Import]:
    """Every import of a file, as absolute names: also relative ones, inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            if base == "hali":  # from hali import engine
                for alias in node.names:
                    yield Import(node.lineno, f"hali.{alias.name}")
            else:
                yield Import(node.lineno, base)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield Import(node.lineno, argument.value)


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of one file, given by its path below hali/."""
    parts = path.split("/")
    package = ".".join(["hali", *parts[:-1]])
    here = parts[0] if len(parts) > 1 else None
    found = []
    for line, module in imports(source, package):
        top, _, rest = module.partition(".")
        if here != ONLY_IN.get(top, here):
            found.append(f"hali/{path}:{line}: {top} may be imported in hali.{ONLY_IN[top]} only")
        there = rest.partition(".")[0]
        if top != "hali" or there in ("", here, *GROUND) or path == ROOT:
            continue
        if there not in FLOOR:
            found.append(f"hali/{path}:{line}: hali.{there} has no place in the house")
        elif here is None or FLOOR[there] >= FLOOR.get(here, -1):
            found.append(f"hali/{path}:{line}: {here or 'the top package'} may not import hali.{there}")
    return found


def test_every_package_has_its_place_in_the_house() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(FLOOR), "add the package to HOUSE and to ARCHITECTURE.md, or remove it"


def test_imports_go_upwards_in_the_house_only() -> None:
    wrong = []
    for path in sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.pyi")]):
        wrong += violations(path.relative_to(SOURCE).as_posix(), path.read_text())
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/ids.py", "import hali.runtime.log"),
        ("model/ids.py", "from hali import runtime"),
        ("model/ids.py", "from ..runtime import log"),
        ("model/ids.py", "def f():\n    from hali.cli import main"),
        ("model/ids.py", "if TYPE_CHECKING:\n    from hali.store import models"),
        ("runtime/log.py", "from hali.config import schema"),
        ("store/models.py", "from hali.transfer import session"),
        ("engine/deep/er.py", "from ...transfer import session"),
        ("api/app.py", "from hali.daemon import node"),
        ("api/app.py", 'importlib.import_module("hali.cli.main")'),
        ("daemon/main.py", "from hali.service import systemd"),
        ("share/pull.py", "import libtorrent as lt"),
        ("daemon/node.py", "import llama_cpp.llama_cpp"),
        ("_version.py", "import hali.model"),
        ("cli/main.py", "import hali.unheard_of"),
    ],
)
def test_a_wrong_import_is_found_wherever_it_stands(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("cli/main.py", "from hali.daemon import client\nfrom hali._version import __version__\nimport hali"),
        (
            "store/models.py",
            "from hali.model.ids import ModelRef\nfrom . import database\nfrom .journal import Journal",
        ),
        ("hashing/__init__.py", "from hali._native import hashcore"),
        ("transfer/session.py", "import libtorrent as lt"),
        ("engine/backend.py", "from llama_cpp import llama_cpp"),
        ("daemon/node.py", "from hali.service import doctor\nfrom hali.transfer import session"),
        ("wire/frames.py", "import json, msgspec"),
    ],
)
def test_a_right_import_is_left_alone(path: str, source: str) -> None:
    assert violations(path, source) == []
