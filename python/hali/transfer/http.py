"""Whole pieces of a file over parallel HTTP range requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TypeVar

import anyio
import httpx

from hali.model.errors import TransferFailed
from hali.model.units import PIECE, piece_count, piece_span
from hali.model.urls import origin, redacted
from hali.runtime.groups import first_error
from hali.runtime.log import get_logger
from hali.transfer.gate import Gate
from hali.transfer.http_body import Attempt, Body
from hali.transfer.http_dial import Dialer, http_client
from hali.transfer.http_expect import Expectation
from hali.transfer.http_guard import check_link
from hali.transfer.http_location import (
    HeaderProvider,
    Headers,
    Location,
    Resolver,
    RetryLater,
    refuse_broken_answer,
    refuse_page,
)
from hali.transfer.http_patience import Patience
from hali.transfer.http_retry import EXPIRED_STATUS, HttpPolicy
from hali.transfer.rate_limit import RateLimiter

log = get_logger(__name__)

T = TypeVar("T")
Sink = Callable[[int, memoryview], Awaitable[None]]


class NoRanges(TransferFailed):
    """The server sends whole files only: `pieces` can read one as a stream, `fetch_piece` cannot."""

    code = "no_ranges"
    retryable = False


class RangeSource:
    """One URL as a source of pieces. Use as `async with`; call `pieces` as often as wanted, one call at a time, or
    `fetch_piece`, as many at a time as wanted.

    `headers` (or an async provider of them, asked again at each resolution) go to the URL's own host only. `trusted`
    means that the user or the configuration named the URL; other URLs must be plain and lead to public addresses only.
    `size`, `etag` and `sha256`, when given, must match what the server says, if it does. Memory: one piece per connection.
    """

    def __init__(
        self,
        url: str,
        *,
        trusted: bool,
        size: int | None = None,
        etag: str | None = None,
        sha256: str | None = None,
        headers: Headers | HeaderProvider | None = None,
        limiter: RateLimiter | None = None,
        gate: Gate | None = None,
        progress: Callable[[int], None] | None = None,
        policy: HttpPolicy | None = None,
        piece: int = PIECE,
    ) -> None:
        origin(url) if trusted else check_link(url)
        self.url = url
        self._expected = Expectation(redacted(url), size=size, etag=etag, sha256=sha256)
        self._policy = policy or HttpPolicy()
        self._limiter = limiter or RateLimiter()
        self._gate = gate or Gate()  # shut: no request, no connection
        self._requests = 0  # under way
        self._progress = progress or (lambda count: None)
        self._piece = piece
        self._dialer = Dialer(url, trusted=trusted)
        self._client = http_client(self._policy, self._dialer)
        self._resolver = Resolver(self._client, self._dialer, url, headers or {}, self._policy)
        self._location: Location | None = None
        self._resolving = anyio.Lock()
        self._connections = anyio.Semaphore(self._policy.connections)
        self._patience = Patience(redacted(url), self._policy)

    async def __aenter__(self) -> RangeSource:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hang_up()

    async def _hang_up(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2.0):  # closing sockets waits for nobody longer
            await self._client.aclose()

    @property
    def size(self) -> int | None:
        """Bytes of the file; when it was not given, `open` learns it."""
        return self._expected.size

    @property
    def waits_s(self) -> float:
        """For how long the server has asked not to be asked, in seconds; 0 as a rule."""
        return self._patience.waits_s

    async def open(self) -> Location:
        """Resolves the URL and checks size and tag, retrying passing trouble. Raises a `HaliError`."""
        failures = 0
        while True:
            try:
                if (location := await self._while_open(self._locate)) is not None:
                    return location
            except RetryLater as trouble:
                failures += 1
                await self._patience.pause(f"{redacted(self.url)}: {trouble.reason}", failures, trouble.after)

    async def fetch_piece(
        self,
        offset: int,
        length: int,
        into: bytearray | memoryview | None = None,
        kept: Callable[[int], None] = lambda count: None,
    ) -> memoryview:
        """The bytes `[offset, offset + length)`, in `into` when given (at least as long), else in memory of their own.

        Up to `policy.connections` calls run at a time, each on a connection of its own that the next call takes over; more
        wait. What arrived before a break is not asked for again; `kept` is told how many bytes more are there, `length` in
        all. Raises NoRanges, or the final error of the server.
        """
        view = memoryview(bytearray(length) if into is None else into)[:length]
        async with self._connections:
            await self._fill(f"bytes {offset} to {offset + length - 1}", offset, view, kept)
        return view

    async def pieces(self, wanted: Iterable[int], sink: Sink) -> None:
        """Fetches the `wanted` pieces and awaits `sink(index, bytes)` for each; order is not promised.

        `wanted` is consumed lazily, one item when a connection is free, so a generator can hand out work shared with
        other sources (a server without ranges takes all of it at once). `sink` runs in up to `policy.connections` tasks
        at a time; its view is valid until it returns. An error of `sink` or a final one of the server ends all of them
        and is raised as it is.
        """
        await self.open()
        queue, begun = iter(wanted), set[int]()
        try:
            await self._in_parallel(queue, begun, sink)
        except NoRanges:
            await self._stream(await self.open(), frozenset(begun | set(queue)), sink)

    async def _while_open(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What `work` returns, or None when a pause cut it off. Waits first while there is one, without a connection left."""
        if not self._gate.is_open:
            if not self._requests and not self._client.is_closed:
                await self._hang_up()
            await self._gate.wait()
        if self._client.is_closed:
            self._client = self._resolver.client = http_client(self._policy, self._dialer)
        self._requests += 1
        try:
            with self._gate.passing():
                return await work()
        finally:
            self._requests -= 1
        return None

    async def _in_parallel(self, queue: Iterator[int], begun: set[int], sink: Sink) -> None:
        """Takes indices from `queue`; those in work are in `begun`."""
        count = min(self._policy.connections, piece_count(self._known_size(), self._piece))
        try:
            async with anyio.create_task_group() as group:
                for _ in range(count):
                    group.start_soon(self._worker, queue, begun, sink)
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None

    async def _worker(self, queue: Iterator[int], begun: set[int], sink: Sink) -> None:
        buffer: bytearray | None = None
        for index in queue:
            begun.add(index)
            offset, size = piece_span(index, self._known_size(), self._piece)
            if buffer is None:  # not before there is work
                buffer = bytearray(min(self._piece, self._known_size()))
            view = memoryview(buffer)[:size]
            await self._fill(f"piece {index}", offset, view)
            await sink(index, view)
            begun.discard(index)

    async def _fill(
        self, what: str, offset: int, view: memoryview, kept: Callable[[int], None] = lambda count: None
    ) -> None:
        done = failures = 0
        while done < len(view):
            attempt = Attempt(view[done:], offset + done, kept)
            try:
                await self._while_open(partial(self._read_range, attempt))
            except RetryLater as trouble:
                useful = attempt.done >= self._policy.useful_progress
                failures = 0 if useful else failures + 1
                await self._patience.pause(f"{what} of {redacted(self.url)}: {trouble.reason}", failures, trouble.after)
            done += attempt.done

    async def _read_range(self, attempt: Attempt) -> None:
        """Reads what is missing of a piece in one request; `attempt.done` counts what came, also when it raises."""
        location = await self._locate()
        if not location.ranges:
            raise NoRanges(f"{redacted(location.url)}: the server sends no ranges")
        if attempt.last >= self._known_size():
            raise ValueError(f"byte {attempt.last} of a file of {self._known_size()}")
        await self._patience.respect_retry_after()
        span = f"bytes={attempt.offset}-{attempt.last}"
        async with self._resolver.request(location.url, {**location.headers, "range": span}) as response:
            self._refuse_stale(location, response)
            if response.status_code == 200:  # ranges are gone, or were never more than a promise of one of the servers
                refuse_page(location.url, response)
                self._expire(location)
                raise RetryLater("the whole file instead of the range asked for")
            allowed = self._expected.check_range(location, response, attempt)
            if not await attempt.read(self._body(response), allowed):
                raise TransferFailed(f"{redacted(self.url)}: more bytes than asked for", retryable=False)
        if attempt.done < len(attempt.view):
            raise RetryLater(f"the answer ended after {attempt.done} of {len(attempt.view)} bytes")

    def _refuse_stale(self, location: Location, response: httpx.Response) -> None:
        """Raises for every status that is no answer; one of a redirect's end may only mean that it has to be found anew."""
        expired = location.redirected and response.status_code in EXPIRED_STATUS
        if expired or response.is_redirect:
            self._expire(location)
            raise RetryLater(f"the address expired (HTTP {response.status_code})", after=0.0)
        refuse_broken_answer(location.url, response)

    async def _stream(self, location: Location, wanted: frozenset[int], sink: Sink) -> None:
        """The whole file in order, for servers without ranges; after a break again, skipping what was delivered."""
        log.info("http.no_ranges", url=redacted(self.url))
        left, failures = set(wanted), 0
        buffer = bytearray(min(self._piece, self._known_size()))
        while left:
            before = len(left)
            try:
                await self._while_open(partial(self._stream_once, location, left, buffer, sink))
            except RetryLater as trouble:
                failures = 0 if len(left) < before else failures + 1
                await self._patience.pause(f"{redacted(self.url)}: {trouble.reason}", failures, trouble.after)
                location = await self.open()

    async def _stream_once(self, location: Location, left: set[int], buffer: bytearray, sink: Sink) -> None:
        await self._patience.respect_retry_after()
        async with self._resolver.request(location.url, location.headers) as response:
            self._refuse_stale(location, response)
            refuse_page(location.url, response)
            if response.status_code != 200 or "content-encoding" in response.headers:
                raise TransferFailed(f"{redacted(location.url)}: not the plain file", retryable=False)
            self._expected.check_tag(location, response)
            body = self._body(response)
            for index in range(max(left) + 1):
                _, size = piece_span(index, self._known_size(), self._piece)
                view = memoryview(buffer)[:size]
                await body.fill(view)
                if index in left:
                    with anyio.CancelScope(shield=True):  # a pause stops the reading, never the keeping
                        await sink(index, view)
                    left.discard(index)

    async def _locate(self) -> Location:
        async with self._resolving:
            if self._location is None:
                await self._patience.respect_retry_after()
                found = await self._resolver.locate()
                self._expected.accept(found)
                self._location = found
            return self._location

    def _body(self, response: httpx.Response) -> Body:
        return Body(response, self._policy, self._limiter, self._progress)

    def _expire(self, location: Location) -> None:
        if self._location is location:  # else another connection has already resolved it anew
            self._location = None

    def _known_size(self) -> int:
        if self.size is None:
            raise TransferFailed(f"{redacted(self.url)}: size not known before open()", retryable=False)
        return self.size
