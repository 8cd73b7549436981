"""RegistryOutbox: carries what is in the outbox to the registries, in order, as often as it takes, and in nobody's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import anyio
import anyio.abc
import anyio.to_thread

from hali.model.errors import HaliError, NotFound, ProtocolError, Refused, UsageError
from hali.model.units import DAY_S
from hali.registry.client import RegistryClient
from hali.registry.outbox import Event, Outbox
from hali.runtime.log import get_logger
from hali.transfer.http_retry import HttpPolicy, wait_before_retry

log = get_logger(__name__)

# Doubling from a second (a registry that restarts) to half an hour (one that is gone), and at most a day when it asks for that.
PATIENCE = HttpPolicy(backoff_first=1.0, backoff_cap=1800.0, retry_after_cap=DAY_S)
LONGEST_S = PATIENCE.retry_after_cap + PATIENCE.backoff_first  # of a pause, with its jitter
MAX_ANSWERED = 20  # tries that the registry answered with an error of its own: it will not learn to like this one
BUSY = (429, 503)
# What the registry says when it has the document, or one that came later: a reply was lost, and the retry found it done.
ALREADY = ("replayed",)
MakeIngest = Callable[[str], Awaitable[bytes]]  # infohash → body; NotFound when the model is gone


class RegistryOutbox:
    """The service. `make_ingest` reads torrent and header when their turn comes; they are too large for the database."""

    def __init__(self, outbox: Outbox, registries: Sequence[str], make_ingest: MakeIngest) -> None:
        self._outbox, self._registries, self._make_ingest = outbox, registries, make_ingest

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled; a registry that is down keeps no other waiting."""
        async with anyio.create_task_group() as group:
            for url in self._registries:
                group.start_soon(self._serve, url)
            task_status.started()

    async def _serve(self, url: str) -> None:
        written, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:  # called in whatever thread wrote
            loop.call_soon_threadsafe(written.set)

        self._outbox.on_put.add(wake)
        try:
            async with RegistryClient(url) as client:
                while True:
                    written.clear()
                    event = await anyio.to_thread.run_sync(self._outbox.next, url)
                    if event is None:
                        await written.wait()
                        continue
                    await anyio.sleep(_wait(event))
                    await self._deliver(client, event)
        finally:
            self._outbox.on_put.discard(wake)

    async def _deliver(self, client: RegistryClient, event: Event) -> None:
        """One try; its end is written down before the next begins."""
        try:
            await self._send(client, event)
        except (Refused, UsageError, NotFound) as exc:
            if exc.code not in ALREADY:
                log.warning("registry.refused", registry=client.url, kind=event.kind, error=str(exc), code=exc.code)
                await anyio.to_thread.run_sync(self._outbox.refused, event, exc.message)
                return
        except HaliError as exc:  # the registry's trouble, or this machine's: a full disk passes too
            await self._later(event, exc)
            return
        log.info("registry.delivered", registry=client.url, kind=event.kind, subject=event.subject[:16])
        follow: Literal["ingest"] | None = "ingest" if event.kind == "publish" else None
        await anyio.to_thread.run_sync(self._outbox.done, event, follow)

    async def _send(self, client: RegistryClient, event: Event) -> None:
        body = event.body
        if event.kind == "ingest":
            if await client.has_torrent(event.subject):
                return
            body = await self._make_ingest(event.subject)
        try:
            await client.post(f"/{event.kind}", body)
        except NotFound:
            if event.kind != "report":
                raise
            # The registry does not list the model, and keeps nothing of the report.
            log.debug("registry.not_listed", registry=client.url)

    async def _later(self, event: Event, error: HaliError) -> None:
        asked = error.details.get("retry_after_s")
        answered = isinstance(error, ProtocolError) or error.details.get("status", 429) not in BUSY
        if answered and event.attempts >= MAX_ANSWERED:
            await anyio.to_thread.run_sync(self._outbox.refused, event, f"given up: {error.message}")
            return
        wait = wait_before_retry(PATIENCE, event.attempts + 1, asked)
        log.info("registry.later", error=error.message, wait_s=round(wait, 1), attempts=event.attempts + 1)
        await anyio.to_thread.run_sync(self._outbox.later, event, wait, error.message)


def _wait(event: Event) -> float:
    """Until the event may be tried. A pause longer than any that is asked for was written by a clock since set back: it is over."""
    left = event.not_before - time.time()
    return max(0.0, left) if left <= LONGEST_S else 0.0
