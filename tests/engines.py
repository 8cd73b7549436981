"""Real engine processes for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess

DEADLINE_S = 120.0  # a hang is a failure; nothing takes a tenth of it on an idle machine


@asynccontextmanager
async def running(path: Path, options: EngineOptions | None = None) -> AsyncIterator[EngineProcess]:
    """An engine with the model at `path`, for the length of a block."""
    engine = EngineProcess("test")
    with anyio.fail_after(DEADLINE_S):
        await engine.start(path, options)
        try:
            yield engine
        finally:
            await engine.stop()
