"""A server of byte ranges as a source of one model: the repository itself, or an address that a torrent names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Self

import anyio

from hali.model.sources import SourceKind
from hali.model.units import BLOCK, MIB, PIECE, piece_span
from hali.runtime.groups import first_error
from hali.share.division import AT_ONCE
from hali.share.incoming_model import Wanted
from hali.share.intake import Intake
from hali.transfer.http import NoRanges, RangeSource

MIN_PART = 2 * MIB  # below this a second connection costs more than it brings

Counted = Callable[[int], None]  # is told of bytes as they come
OpenRanges = Callable[[Wanted, Counted], Awaitable[RangeSource]]


class _Sources:
    """An open source for each file, from the first piece that is wanted of it. An async context manager that closes them."""

    def __init__(self, open_ranges: Callable[[Wanted], Awaitable[RangeSource]]) -> None:
        self._open = open_ranges
        self._opened: dict[str, RangeSource] = {}
        self._opening = anyio.Lock()
        self._stack = AsyncExitStack()

    @property
    def waits_s(self) -> float:
        """The longest wait that one of them was asked for, in seconds from now."""
        return max((source.waits_s for source in self._opened.values()), default=0.0)

    async def of(self, file: Wanted) -> RangeSource:
        """The source of one file."""
        async with self._opening:
            if file.name not in self._opened:
                self._opened[file.name] = await self._stack.enter_async_context(await self._open(file))
            return self._opened[file.name]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class RangeLane:
    """Whole pieces by HTTP, a few at a time, each over several connections, so that a crash loses `AT_ONCE` at most."""

    def __init__(
        self, intake: Intake, kind: SourceKind, open_ranges: OpenRanges, count: Counted, *, connections: int
    ) -> None:
        self.kind = kind.name.lower()
        self._intake, self._source_kind, self._open, self._count = intake, kind, open_ranges, count
        self._connections = connections
        self._sources: _Sources | None = None

    @property
    def waits_s(self) -> float:
        """For how long the server has asked not to be asked (Retry-After), in seconds."""
        return self._sources.waits_s if self._sources is not None else 0.0

    async def run(self) -> None:
        """Fetch what is missing until nothing is; raises the server's final error."""
        while not self._intake.is_open:  # of a magnet, name and size come from its swarm
            await self._intake.changed()
        async with _Sources(lambda file: self._open(file, self._count)) as self._sources:
            sources = self._sources
            try:
                await self._in_parallel(sources)
            except NoRanges:
                await self._one_after_another(sources)

    async def _one_after_another(self, sources: _Sources) -> None:
        """Whole files as streams, of which only the missing pieces are taken."""
        model = self._intake.incoming
        for number, file in enumerate(model.wanted):
            missing = [
                model.map.locate(i)[1] for i in model.map.pieces_of(number) if i in self._intake.division.missing
            ]
            if missing:
                await (await sources.of(file)).pieces(missing, partial(self._take_of, number))

    async def _take_of(self, number: int, local: int, data: memoryview) -> None:
        await self._take(self._intake.incoming.map.index(number, local), data)

    async def _in_parallel(self, sources: _Sources) -> None:
        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(AT_ONCE, self._connections)):
                    group.start_soon(self._worker, sources)
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None

    async def _worker(self, sources: _Sources) -> None:
        buffer = bytearray()
        while (index := await self._intake.claim()) is not None:
            async with self._intake.working(index):
                buffer = buffer or bytearray(min(PIECE, self._intake.incoming.length))
                await self._take(index, await self._fetch(sources, index, memoryview(buffer)))

    async def _fetch(self, sources: _Sources, index: int, buffer: memoryview) -> memoryview:
        model = self._intake.incoming
        number, local = model.map.locate(index)
        source = await sources.of(model.wanted[number])
        offset, size = piece_span(local, model.map.lengths[number])
        part = self._part(size)
        kept = partial(self._intake.coming, index)
        async with anyio.create_task_group() as group:
            for at in range(0, size, part):
                fetch = partial(source.fetch_piece, offset + at, min(part, size - at), buffer[at:size], kept)
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
