"""The gate that all transfers pass: shut, it is a pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from hali.runtime.channels import Watch


class Gate:
    """Open or shut, for many tasks. Whoever moves bytes waits here at each boundary, and is cut off inside `passing`."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.state: Watch[bool] = Watch(is_open)
        self._inside: set[anyio.CancelScope] = set()

    @property
    def is_open(self) -> bool:
        """False during a pause."""
        return self.state.value

    def open(self) -> None:
        """Let everybody through."""
        if not self.is_open:
            self.state.set(True)

    def shut(self) -> None:
        """Let nobody through, and cut off who is inside. Call it from the event loop's thread."""
        if self.is_open:
            self.state.set(False)
        for scope in self._inside:
            scope.cancel()

    async def wait(self) -> None:
        """Return at once while it is open, else when it opens."""
        await self.state.until(lambda is_open: is_open)

    @contextmanager
    def passing(self) -> Iterator[anyio.CancelScope]:
        """What is awaited in the block ends when the gate shuts, and the block with it; `cancelled_caught` tells."""
        with anyio.CancelScope() as scope:
            self._inside.add(scope)
            if not self.is_open:
                scope.cancel()
            try:
                yield scope
            finally:
                self._inside.discard(scope)
