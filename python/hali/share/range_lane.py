"""A server of byte ranges as a source of one file: the repository itself, or an address that a torrent names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from hali.model.sources import SourceKind
from hali.model.units import BLOCK, MIB, PIECE, piece_span
from hali.runtime.groups import first_error
from hali.share.division import AT_ONCE
from hali.share.intake import Intake
from hali.transfer.http import NoRanges, RangeSource

MIN_PART = 2 * MIB  # below this a second connection costs more than it brings

Counted = Callable[[int], None]  # is told of bytes as they come
OpenRanges = Callable[[Counted], Awaitable[RangeSource]]


class RangeLane:
    """Whole pieces by HTTP, a few at a time, each over several connections, so that a crash loses `AT_ONCE` at most."""

    def __init__(
        self, intake: Intake, kind: SourceKind, open_ranges: OpenRanges, count: Counted, *, connections: int
    ) -> None:
        self.kind = kind.name.lower()
        self._intake, self._source_kind, self._open, self._count = intake, kind, open_ranges, count
        self._connections = connections

    async def run(self) -> None:
        """Fetch what is missing until nothing is; raises the server's final error."""
        while not self._intake.is_open:  # of a magnet, name and size come from its swarm
            await self._intake.changed()
        async with await self._open(self._count) as source:
            try:
                await self._in_parallel(source)
            except NoRanges:
                await source.pieces(sorted(self._intake.division.missing), self._take)

    async def _in_parallel(self, source: RangeSource) -> None:
        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(AT_ONCE, self._connections)):
                    group.start_soon(self._worker, source)
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None

    async def _worker(self, source: RangeSource) -> None:
        buffer = bytearray()
        while (index := await self._intake.claim()) is not None:
            async with self._intake.working(index):
                buffer = buffer or bytearray(min(PIECE, self._intake.incoming.length))
                await self._take(index, await self._fetch(source, index, memoryview(buffer)))

    async def _fetch(self, source: RangeSource, index: int, buffer: memoryview) -> memoryview:
        offset, size = piece_span(index, self._intake.incoming.length)
        part = self._part(size)
        async with anyio.create_task_group() as group:
            for at in range(0, size, part):
                fetch = partial(source.fetch_piece, offset + at, min(part, size - at), buffer[at:size])
                group.start_soon(fetch)
        return buffer[:size]

    def _part(self, size: int) -> int:
        """Bytes for each connection: all of them are to be busy, also with the last few pieces."""
        division = self._intake.division
        in_flight = max(1, min(AT_ONCE, len(division.missing)))
        parts = max(1, min(self._connections // in_flight, size // MIN_PART))
        return -(-size // (parts * BLOCK)) * BLOCK

    async def _take(self, index: int, data: memoryview) -> None:
        await self._intake.deliver(index, data, self._source_kind)
