"""The request `prune`: what its parameters mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hali.daemon.pruning import prune
from hali.model.errors import UsageError
from hali.store.database import Database
from tests.unit.share.nests import Nest


@pytest.fixture
def nest(tmp_path: Path) -> Iterator[Nest]:
    database = Database(tmp_path / "d")
    made = Nest(tmp_path / "nest", database)
    made.add("a", 1000, 9)
    made.add("b", 2000, 3)
    yield made
    database.close()


async def ask(nest: Nest, quota_gb: float = 0.0, **params: Any) -> list[str]:
    """First letters of the models that went, or would go."""
    found = await prune(nest.space(quota_gb), nest.library, params)
    return [model["sha256"][0] for model in found["models"]]


@pytest.mark.blocking_ok
async def test_the_quota_of_the_request_comes_before_the_configured_one(nest: Nest) -> None:
    assert await ask(nest, dry_run=True) == []
    assert await ask(nest, 2500 / 1e9, dry_run=True) == ["a"]
    assert await ask(nest, 2500 / 1e9, dry_run=True, quota=10_000) == []
    assert await ask(nest, dry_run=True, quota=0) == ["a", "b"]
    assert await ask(nest, dry_run=True, older_than=5 * 86_400.0) == ["a"]


@pytest.mark.blocking_ok
async def test_nothing_goes_that_was_not_agreed_to(nest: Nest) -> None:
    assert await ask(nest, quota=0, only=["b" * 64]) == ["b"]
    assert nest.left() == "a"
    assert await ask(nest, quota=0, only=[]) == []
    assert nest.left() == "a"


@pytest.mark.blocking_ok
async def test_bytes_that_have_another_name_are_told(nest: Nest, tmp_path: Path) -> None:
    entry = nest.library.entry("a" * 64)
    assert entry is not None
    (tmp_path / "alias").hardlink_to(entry.record.path)
    found = await prune(nest.space(), nest.library, {"quota": 0})
    assert [(m["sha256"][0], m["linked_elsewhere"]) for m in found["models"]] == [("a", True), ("b", False)]
    assert (found["removed"], found["freed"]) == (3000, 2000)


@pytest.mark.blocking_ok
async def test_a_file_that_is_gone_frees_nothing(nest: Nest) -> None:
    entry = nest.library.entry("a" * 64)
    assert entry is not None
    entry.record.path.unlink()
    found = await prune(nest.space(), nest.library, {"quota": 0})
    assert (found["removed"], found["freed"]) == (3000, 2000)


@pytest.mark.blocking_ok
async def test_parameters_of_another_type_are_refused(nest: Nest) -> None:
    for params in ({"quota": "1"}, {"older_than": "30d"}, {"only": "b"}, {"dry_run": 1}):
        with pytest.raises(UsageError):
            await prune(nest.space(), nest.library, params)
    assert nest.left() == "ab"
