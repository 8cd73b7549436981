"""A daemon that is told to end while it starts."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from hali.config.paths import Paths
from hali.daemon import ending, main
from hali.daemon.main import Arguments
from hali.daemon.node import Node
from hali.runtime.notify import Notifier

pytestmark = pytest.mark.anyio


async def test_a_signal_is_not_kept_waiting_by_a_model_that_is_being_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = anyio.Event()

    async def preload(model: str) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()
        finally:
            left.set()

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        yield

    def nothing(*args: object) -> None:
        pass

    parts = dict.fromkeys(("activity", "api_keys", "key_ring", "registry"))
    node = SimpleNamespace(
        **parts,
        paths=Paths(tmp_path),
        dashboard=SimpleNamespace(open=nothing),
        running=running,
        preload=preload,
        told=SimpleNamespace(started=nothing, stopping=nothing),
        supervisor=SimpleNamespace(statuses=list),
    )
    monkeypatch.setattr(ending, "for_sure", nothing)  # it would end this process
    monkeypatch.setattr(gc, "freeze", nothing)
    await main._serve(cast(Node, node), Arguments({}, "smollm2"), Notifier({}))
    assert left.is_set()
