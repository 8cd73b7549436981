"""Where pulls wait for one of a limited number of places, the most urgent first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, get_args

import anyio

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


class _Ticket:
    def __init__(self, key: str, priority: Priority, number: int) -> None:
        self.key, self.priority, self.number = key, priority, number
        self.called = anyio.Event()

    @property
    def rank(self) -> tuple[int, int]:
        return PRIORITIES.index(self.priority), self.number


class WaitingRoom:
    """At most `places` are inside at a time; the others wait by priority, then by number. Nobody inside is ever put out."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside = 0
        self._waiting: list[_Ticket] = []

    @property
    def places(self) -> int:
        """How many may be inside."""
        return self._places

    @property
    def inside(self) -> int:
        """How many are; more than `places` for a while after it was made smaller."""
        return self._inside

    def resize(self, places: int) -> None:
        """More or fewer places from now on."""
        self._places = places
        self._call()

    @asynccontextmanager
    async def place(
        self, key: str, priority: Priority, number: int, waiting: Callable[[], None] = lambda: None
    ) -> AsyncIterator[None]:
        """Inside for the length of the block; `waiting` is called if there is no place at once. `number` is that of arrival."""
        ticket = _Ticket(key, priority, number)
        self._waiting.append(ticket)
        try:
            self._call()
            if not ticket.called.is_set():
                waiting()
            await ticket.called.wait()
            yield
        finally:
            self._leave(ticket)

    def move(self, key: str, priority: Priority) -> bool:
        """Another priority for who waits under `key`; False when nobody does."""
        found = [ticket for ticket in self._waiting if ticket.key == key]
        for ticket in found:
            ticket.priority = priority
        return bool(found)

    def order(self) -> list[str]:
        """The keys of those who wait, in the order in which they will be called."""
        return [ticket.key for ticket in sorted(self._waiting, key=lambda ticket: ticket.rank)]

    def _call(self) -> None:
        while self._waiting and self._inside < self._places:
            ticket = min(self._waiting, key=lambda ticket: ticket.rank)
            self._waiting.remove(ticket)
            self._inside += 1
            ticket.called.set()

    def _leave(self, ticket: _Ticket) -> None:
        """Also of one who was called and cancelled before it noticed."""
        if ticket.called.is_set():
            self._inside -= 1
        else:
            self._waiting.remove(ticket)
        self._call()
