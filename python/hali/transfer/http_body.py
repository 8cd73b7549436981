"""Reading a response body: paced, watched for stalls, and cut where the caller wants it cut."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx

from hali.transfer.http_location import RetryLater, network_trouble
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.rate_limit import RateLimiter


class Body:
    """The bytes of one response. Silence ends in `RetryLater` by the read timeout, a trickle by the policy's floor."""

    def __init__(
        self, response: httpx.Response, policy: HttpPolicy, limiter: RateLimiter, progress: Callable[[int], None]
    ) -> None:
        self._chunks = response.aiter_raw()
        self._policy = policy
        self._limiter = limiter
        self._progress = progress
        self._received = 0
        self._waited = 0.0  # seconds spent on the network; our own rate limit does not count
        self._rest = memoryview(b"")

    async def chunk(self) -> bytes:
        """The next bytes as they come; b"" at the end."""
        before = anyio.current_time()
        async with network_trouble():
            chunk = await anext(self._chunks, b"")
        self._waited += anyio.current_time() - before
        self._received += len(chunk)
        if chunk:
            self._progress(len(chunk))
            await self._limiter.take(len(chunk))
        return chunk

    def check_pace(self) -> None:
        """`RetryLater` if the server only drips; called after the bytes at hand are kept."""
        if self._waited > self._policy.slow_after and self._received < self._waited * self._policy.slow_rate:
            raise RetryLater(f"only {self._received} bytes in {self._waited:.0f} s")

    async def fill(self, view: memoryview) -> None:
        """Fills `view` with the next bytes of the body; `RetryLater` when it ends early."""
        done = 0
        while done < len(view):
            if not self._rest:
                self.check_pace()
                self._rest = memoryview(await self.chunk())
                if not self._rest:
                    raise RetryLater("the answer ended early")
            part = self._rest[: len(view) - done]
            view[done : done + len(part)] = part
            self._rest = self._rest[len(part) :]
            done += len(part)


class Attempt:
    """One request for the rest of a piece: where the bytes go and how many came. `kept` is told of each that is kept."""

    def __init__(self, view: memoryview, offset: int, kept: Callable[[int], None] = lambda count: None) -> None:
        self.view = view
        self.offset = offset
        self.done = 0
        self._kept = kept

    @property
    def last(self) -> int:
        """Offset in the file of the last byte wanted."""
        return self.offset + len(self.view) - 1

    async def read(self, body: Body, allowed: int) -> bool:
        """Keeps the bytes of `body`, also when it raises; False if it brings more than `allowed`."""
        while chunk := await body.chunk():
            end = self.done + len(chunk)
            if end > allowed:
                return False
            self.view[self.done : end] = chunk
            self.done = end
            self._kept(len(chunk))
            body.check_pace()
        return True
