"""The change of the publisher's key by a daemon: whatever comes between, no key that was announced is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hali.config import identity
from hali.config.load import load
from hali.config.paths import Paths
from hali.registry.documents import Rotation
from hali.registry.local import LocalRegistry
from hali.registry.publisher import closing_of
from hali.store.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.blocking_ok]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    paths = Paths(tmp_path)
    paths.create()
    database = Database(paths.database)
    settings = load(paths.config, {}).settings
    yield LocalRegistry(paths, settings, identity.load_or_create(paths.identity), database, list)
    database.close()


def chain(registry: LocalRegistry) -> list[str]:
    """The keys that a reader follows, from the first on."""
    keys: list[str] = []
    for envelope in registry.publisher.closings():
        closing = closing_of(envelope)
        assert isinstance(closing, Rotation)
        keys += [closing.publisher] if not keys else []
        assert closing.publisher == keys[-1]
        keys.append(closing.successor)
    return keys


async def test_who_hangs_up_in_the_middle_of_a_rotation_gets_it_all_the_same(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, write = registry.publisher.key, registry._write
    with anyio.CancelScope() as scope:

        async def hung_up(work: Any) -> Any:
            done = await write(work)
            scope.cancel()
            return done

        monkeypatch.setattr(registry, "_write", hung_up)
        await registry.rotate()
    assert chain(registry) == [old, registry.publisher.key]


async def test_after_a_rotation_that_failed_halfway_the_next_one_begins_at_its_key(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, finish = registry.publisher.key, registry.publisher.finish_change

    def fails() -> None:
        if registry.publisher.closings():
            raise OSError(30, "Read-only file system")
        finish()

    monkeypatch.setattr(registry.publisher, "finish_change", fails)
    with pytest.raises(OSError, match="Read-only"):
        await registry.rotate()
    monkeypatch.undo()
    await registry.rotate()
    first, second, third = chain(registry)
    assert (first, third) == (old, registry.publisher.key) and second not in (first, third)


async def test_two_rotations_at_once_follow_each_other(registry: LocalRegistry) -> None:
    old = registry.publisher.key
    async with anyio.create_task_group() as group:
        group.start_soon(registry.rotate)
        group.start_soon(registry.rotate)
    assert [chain(registry)[0], chain(registry)[-1]] == [old, registry.publisher.key]
    assert len(chain(registry)) == 3
