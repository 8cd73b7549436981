"""Three channels, chosen by meaning; none has a default capacity: the caller writes the number and why.

`mailbox(n)`: one reader; a full one makes `send` wait and `offer` raise `Overloaded`.
`Bus`: many readers; the publisher never waits, a slow reader is told `Lagged(n)`.
`Watch`: the latest value only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from hali.model.errors import Overloaded

T = TypeVar("T")


class Channel(Protocol):
    """What is measured of a mailbox or a bus."""

    @property
    def depth(self) -> int:
        """Items waiting, for the slowest reader."""

    @property
    def dropped(self) -> int:
        """Items that found no room, since the channel was made."""


class Sender(Generic[T]):
    """The writing end of a mailbox; may be shared by many tasks."""

    def __init__(self, name: str, stream: MemoryObjectSendStream[T]) -> None:
        self.name = name
        self._dropped = 0
        self._stream = stream

    async def send(self, item: T) -> None:
        """Wait for room, then deliver; where there is room this does not let others run first."""
        try:
            self._stream.send_nowait(item)
        except anyio.WouldBlock:
            await self._stream.send(item)

    def offer(self, item: T) -> None:
        """Deliver now or raise `Overloaded`: for callers that must not wait."""
        try:
            self._stream.send_nowait(item)
        except anyio.WouldBlock:
            self._dropped += 1
            raise Overloaded(f"mailbox {self.name} is full", details={"mailbox": self.name}) from None

    @property
    def depth(self) -> int:
        """Items waiting."""
        return self._stream.statistics().current_buffer_used

    @property
    def full(self) -> bool:
        """Whether `send` would wait."""
        counted = self._stream.statistics()
        return counted.current_buffer_used >= counted.max_buffer_size

    @property
    def dropped(self) -> int:
        """How often `offer` was refused."""
        return self._dropped

    def close(self) -> None:
        """No more items; the reader ends after what waits."""
        self._stream.close()


class Receiver(Generic[T]):
    """The reading end of a mailbox: `async for item in receiver`."""

    def __init__(self, stream: MemoryObjectReceiveStream[T]) -> None:
        self._stream = stream

    def __aiter__(self) -> Receiver[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> T:
        """The next item; `anyio.EndOfStream` when all senders closed. One that waits is taken before others run."""
        try:
            return self._stream.receive_nowait()
        except anyio.WouldBlock:
            return await self._stream.receive()

    def close(self) -> None:
        """Senders get `anyio.BrokenResourceError` from now on."""
        self._stream.close()


def mailbox(name: str, capacity: int) -> tuple[Sender[T], Receiver[T]]:
    """A bounded queue with one reader."""
    send, receive = anyio.create_memory_object_stream[T](capacity)
    return Sender(name, send), Receiver(receive)


class Lagged:
    """Told to a Bus reader in place of the `missed` items it was too slow for."""

    def __init__(self, missed: int) -> None:
        self.missed = missed

    def __repr__(self) -> str:
        return f"Lagged({self.missed})"


class Subscription(Generic[T]):
    """One reader of a Bus: an endless async iterator of items and `Lagged` marks."""

    def __init__(self, capacity: int, backlog: list[T]) -> None:
        self._items: deque[T] = deque(backlog, maxlen=capacity)
        self._missed = 0
        self._wake = anyio.Event()
        if backlog:
            self._wake.set()

    def push(self, item: T) -> bool:
        """Take an item without waiting; False when the oldest had to give way."""
        full = len(self._items) == self._items.maxlen
        self._missed += full
        self._items.append(item)
        self._wake.set()
        return not full

    @property
    def waiting(self) -> int:
        """Items not read yet."""
        return len(self._items)

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T | Lagged:
        while not self._items:
            self._wake = anyio.Event()
            await self._wake.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return Lagged(missed)
        return self._items.popleft()


class Bus(Generic[T]):
    """Many readers; publishing never waits; the last `history` items are replayed to whoever asks for them."""

    def __init__(self, *, capacity: int, history: int = 0) -> None:
        self._capacity = capacity
        self._history: deque[T] = deque(maxlen=history)
        self._readers: set[Subscription[T]] = set()
        self._dropped = 0

    def publish(self, item: T) -> None:
        """Hand `item` to every reader."""
        self._history.append(item)
        for reader in self._readers:
            self._dropped += not reader.push(item)

    @property
    def depth(self) -> int:
        """Items that the slowest reader has not read yet."""
        return max((reader.waiting for reader in self._readers), default=0)

    @property
    def dropped(self) -> int:
        """Items that readers missed, all together."""
        return self._dropped

    @contextmanager
    def subscribe(self, *, replay: bool = False) -> Iterator[Subscription[T]]:
        """Read from now on (with `replay`, from the kept history on) until the block ends."""
        reader: Subscription[T] = Subscription(self._capacity, list(self._history) if replay else [])
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    @property
    def kept(self) -> list[T]:
        """What is replayed, oldest first."""
        return list(self._history)

    @property
    def readers(self) -> int:
        """How many subscriptions are open."""
        return len(self._readers)


class Watch(Generic[T]):
    """The latest value only; readers that fall behind skip values, never see an older one."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._changed = anyio.Event()

    @property
    def value(self) -> T:
        """The latest value."""
        return self._value

    def set(self, value: T) -> None:
        """Replace the value and wake every waiter."""
        self._value = value
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def changed(self) -> T:
        """Wait for the next `set` and return the value then."""
        await self._changed.wait()
        return self._value

    async def until(self, predicate: Callable[[T], bool]) -> T:
        """Wait until the value satisfies `predicate`; at once if it does."""
        while not predicate(self._value):
            await self._changed.wait()
        return self._value
