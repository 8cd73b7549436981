"""The configuration read again by a node that runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from hali.config import identity
from hali.config.load import Loaded, load
from hali.config.paths import Paths
from hali.daemon.node import Node
from hali.store.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.blocking_ok]


async def test_of_two_that_set_a_key_at_once_the_last_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path)
    paths.create()
    node = Node(paths, load(paths.config, {}), identity.load_or_create(paths.identity), Database(paths.database), ())
    was_read, go_on, applied = threading.Event(), threading.Event(), anyio.Event()

    def read(path: Path, **named: Any) -> Loaded:
        found = load(path, **named)
        if not was_read.is_set():
            was_read.set()
            go_on.wait()
        return found

    async def second() -> None:
        await node.reload()
        applied.set()

    monkeypatch.setattr("hali.daemon.node.load", read)
    paths.config.write_text("pull_concurrency = 2")
    async with anyio.create_task_group() as group:
        group.start_soon(node.reload)
        await anyio.to_thread.run_sync(was_read.wait)
        paths.config.write_text("pull_concurrency = 7")
        group.start_soon(second)
        while not applied.is_set() and not waits(node):
            await anyio.lowlevel.checkpoint()
        go_on.set()
    assert (node.settings.pull_concurrency, node.room.places) == (7, 7)
    node.close()


def waits(node: Node) -> bool:
    """Whether one reload waits for another."""
    lock: anyio.Lock | None = vars(node).get("_reloading")
    return lock is not None and lock.statistics().tasks_waiting > 0
