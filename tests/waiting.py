"""Waiting for what another task, thread or process will do."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

WAIT_S = 60.0  # a busy machine may take long; a test that waits in vain has failed
LOOK_S = 0.002  # between two looks


async def until(condition: Callable[[], object], what: str = "it holds") -> None:
    """Look until `condition` holds; fail with `what` after a generous deadline. `tests.nodes.until` waits without a loop."""
    with anyio.move_on_after(WAIT_S):
        while not condition():
            await anyio.sleep(LOOK_S)
        return
    pytest.fail(f"waited {WAIT_S:.0f} s in vain until {what}")
