"""Small documents by URL (a .torrent, a registry's lists), whole and in memory."""

from __future__ import annotations

import anyio

from hali.model.errors import TransferFailed
from hali.model.urls import origin, redacted
from hali.transfer.http_body import Body
from hali.transfer.http_dial import Dialer, http_client
from hali.transfer.http_guard import check_link
from hali.transfer.http_location import Resolver, RetryLater, refuse_broken_answer, refuse_page
from hali.transfer.http_patience import Patience
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.rate_limit import RateLimiter

DEADLINE = 60.0  # with all retries; a person waits at the other end
POLICY = HttpPolicy(connections=1, attempts=3, stall=15.0, retry_after_cap=20.0)


async def fetch_document(url: str, *, trusted: bool, limit: int, policy: HttpPolicy = POLICY) -> bytes:
    """The body at `url`, redirects followed as `Dialer` allows. Raises a `HaliError`: longer than `limit`, refused, not there.

    `trusted` as for `RangeSource`. Sends no token.
    """
    origin(url) if trusted else check_link(url)
    dialer, patience, failures = Dialer(url, trusted=trusted), Patience(redacted(url), policy), 0
    with anyio.move_on_after(DEADLINE):
        async with http_client(policy, dialer) as client:
            resolver = Resolver(client, dialer, url, {}, policy)
            while True:
                try:
                    return await _read(resolver, url, limit, policy)
                except RetryLater as trouble:
                    failures += 1
                    await patience.pause(f"{redacted(url)}: {trouble.reason}", failures, trouble.after)
    raise TransferFailed(f"{redacted(url)}: no whole answer within {DEADLINE:.0f} s")


async def _read(resolver: Resolver, url: str, limit: int, policy: HttpPolicy) -> bytes:
    async with resolver.follow({}) as (where, _, response):
        refuse_broken_answer(where, response)
        refuse_page(where, response)
        if response.status_code != 200 or "content-encoding" in response.headers:
            raise TransferFailed(f"{redacted(where)}: not the plain file", retryable=False)
        body, found = Body(response, policy, RateLimiter(), lambda count: None), bytearray()
        while chunk := await body.chunk():
            found += chunk
            body.check_pace()
            if len(found) > limit:
                raise TransferFailed(f"{redacted(url)}: more than {limit} bytes", retryable=False)
        return bytes(found)
