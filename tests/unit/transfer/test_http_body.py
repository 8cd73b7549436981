"""How often a response body is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import pytest

from hali.transfer import http_body
from hali.transfer.http_body import GATHER_S, SMALL, Body
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.rate_limit import RateLimiter

pytestmark = pytest.mark.anyio


class _Response:
    def __init__(self, *sizes: int) -> None:
        self._sizes = sizes

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        for size in self._sizes:
            yield bytes(size)


async def test_after_a_small_part_more_is_left_to_gather_and_after_a_large_one_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(http_body.anyio, "sleep", sleep)
    response = cast("Any", _Response(SMALL, 100, SMALL - 1, SMALL + 1))
    body = Body(response, HttpPolicy(), RateLimiter(), lambda count: None)
    came = [len(await body.chunk()) for _ in range(5)]
    assert came == [SMALL, 100, SMALL - 1, SMALL + 1, 0]
    assert waits == [GATHER_S, GATHER_S], "after the second and the third"
