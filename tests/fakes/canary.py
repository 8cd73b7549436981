"""A port that nobody may talk to."""

from __future__ import annotations

import socket
from types import TracebackType


class Canary:
    """Listens and never answers; `touched` tells whether anybody has connected. Use as a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listener = socket.create_server((host, 0))
        self._listener.setblocking(False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def touched(self) -> bool:
        """True if a connection was made, also one that has ended: the kernel keeps them until they are accepted."""
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return False
        connection.close()
        return True

    def __enter__(self) -> Canary:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
