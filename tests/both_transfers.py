"""A real torrent and a real HTTP download at once, under one throttle, and the bytes of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from hali.model.units import PIECE, piece_count
from hali.runtime.channels import Watch
from hali.transfer.http import RangeSource
from hali.transfer.session import TorrentSession, running
from hali.transfer.throttle import Caps, Throttle
from tests.fakes.hf_server import FakeHub
from tests.fakes.torrents import LOCAL, Sample

DEADLINE = 60.0
REPO, FILE = "o/r", "m.gguf"


class Both:
    """A torrent and an HTTP download under one throttle, and the bytes of each so far."""

    def __init__(self, session: TorrentSession, throttle: Throttle) -> None:
        self.session, self.throttle = session, throttle
        self.http = 0
        self.http_scope = anyio.CancelScope()

    async def torrent(self) -> int:
        return (await self.session.traffic()).received

    async def read(self, hub: FakeHub) -> None:
        async def sink(index: int, view: memoryview) -> None:
            await anyio.lowlevel.checkpoint()

        url = f"{hub.url}/{REPO}/resolve/{hub.repos[REPO].sha}/{FILE}"
        with self.http_scope:
            async with RangeSource(url, trusted=True, limiter=self.throttle.download, progress=self._came) as source:
                await source.pieces(range(piece_count(hub.repos[REPO].size(FILE), PIECE)), sink)

    def _came(self, count: int) -> None:
        self.http += count

    async def total(self) -> int:
        return self.http + await self.torrent()


@asynccontextmanager
async def both(sample: Sample, hub: FakeHub, folder: Path, caps: Caps) -> AsyncIterator[Both]:
    """Both transfers under way, the torrent into `folder`."""
    async with running(LOCAL) as seeder, running(LOCAL) as session:
        throttle = Throttle(Watch(session), caps)
        found = Both(session, throttle)
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        async with anyio.create_task_group() as group:
            await group.start(lambda task_status: throttle.run(task_status=task_status))
            group.start_soon(found.read, hub)
            async with session.fetch(sample.metainfo, folder, peers=[("127.0.0.1", seeder.port)]):
                yield found
            group.cancel_scope.cancel()


async def reach(measure: Callable[[], Awaitable[int]], goal: int) -> int:
    """The first measured value of at least `goal`."""
    with anyio.fail_after(DEADLINE):
        while (value := await measure()) < goal:
            await anyio.sleep(0.02)
    return value
