"""The events of one generation on their way from the socket to whoever iterates."""

from __future__ import annotations

from collections import deque

import anyio

from hali.model.errors import HaliError
from hali.model.generation import Done, GenerationEvent


class Reply:
    """A queue for one reader. It needs no limit: a reply has at most as many events as its context has tokens."""

    def __init__(self) -> None:
        self._items: deque[GenerationEvent | HaliError] = deque()
        self._came = anyio.Event()
        self.over = False  # its last event or an error has come

    def put(self, item: GenerationEvent | HaliError) -> None:
        """Add an event, or the error that ends the reply; what comes after the end is dropped."""
        if not self.over:
            self._items.append(item)
            self.over = isinstance(item, Done | HaliError)
            self._came.set()

    async def next(self) -> GenerationEvent:
        """The next event; raises the error when it is its turn."""
        while not self._items:
            await self._came.wait()
        item = self._items.popleft()
        if not self._items:
            self._came = anyio.Event()
        if isinstance(item, HaliError):
            raise item
        return item
