"""The events of one generation, or the answer to one query, on their way from the socket to whoever waits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from hali.model.errors import HaliError
from hali.model.generation import Answer, Done, GenerationEvent

T = TypeVar("T", bound=GenerationEvent | Answer)


class Reply(Generic[T]):
    """A queue for one reader. It needs no limit: a reply has at most as many events as its context has tokens."""

    def __init__(self) -> None:
        self._items: deque[T | HaliError] = deque()
        self._came = asyncio.Event()  # it can be cleared, so that a token costs no new one
        self.over = False  # its last event or an error has come

    def put(self, item: T | HaliError) -> None:
        """Add an event, or the error that ends the reply; what comes after the end is dropped."""
        if not self.over:
            self._items.append(item)
            self.over = isinstance(item, Done | HaliError | Answer)
            self._came.set()

    async def next(self) -> T:
        """The next event; raises the error when it is its turn."""
        while not self._items:
            await self._came.wait()
        item = self._items.popleft()
        if not self._items:
            self._came.clear()
        if isinstance(item, HaliError):
            raise item
        return item
