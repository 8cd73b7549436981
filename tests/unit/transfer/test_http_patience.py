"""How a source waits for a server that asked for it."""

from __future__ import annotations

import anyio
import pytest

from hali.transfer.http_patience import Patience
from hali.transfer.http_retry import HttpPolicy

pytestmark = pytest.mark.anyio


async def test_the_wait_that_a_server_asked_for_is_told_while_it_lasts() -> None:
    patience = Patience("http://hub/file", HttpPolicy(backoff_first=0.0))
    assert patience.waits_s == 0
    async with anyio.create_task_group() as group:
        group.start_soon(patience.pause, "HTTP 429", 1, 50.0)
        await anyio.wait_all_tasks_blocked()
        assert 40 < patience.waits_s <= 50
        group.cancel_scope.cancel()


async def test_a_wait_of_our_own_is_none_of_the_server() -> None:
    patience = Patience("http://hub/file", HttpPolicy(backoff_first=50.0, backoff_cap=50.0))
    async with anyio.create_task_group() as group:
        group.start_soon(patience.pause, "connection reset", 1, None)
        await anyio.wait_all_tasks_blocked()
        assert patience.waits_s == 0
        group.cancel_scope.cancel()
