"""A transport that holds the head of an answer until its body comes: both go out in one packet, by one call of the kernel."""

from __future__ import annotations

import asyncio
from typing import Any, cast

_BEGIN = b"HTTP/1.1 "  # of a head; a body that begins so is held no longer than one


class HeadHolder:
    """Stands before `transport`. A head waits for the next write, at the most for the end of the loop's turn; all else goes through."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Send `data` after what is held."""
        if not self._head and data.startswith(_BEGIN):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        head, self._head = self._head, b""
        self._transport.write(head + data if head else data)

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Close when all is sent."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close now; what is held is lost with all else."""
        self._head = b""
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def holding_heads(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> asyncio.Transport:
    """`transport` behind a `HeadHolder`."""
    return cast(asyncio.Transport, HeadHolder(transport, loop))
