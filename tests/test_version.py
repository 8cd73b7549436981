"""The version stands in three places, each of which must know it without asking another."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import hali

ROOT = Path(__file__).resolve().parent.parent


def test_the_three_places_that_know_the_version_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert hali.__version__ == project == cargo == version("hali")


def test_the_supported_python_is_the_same_for_pip_ruff_and_mypy() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["requires-python"] == ">=3.11"
    assert settings["tool"]["ruff"]["target-version"] == "py311"
    assert settings["tool"]["mypy"]["python_version"] == "3.11"
    assert sys.version_info >= (3, 11)
