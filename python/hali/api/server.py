"""ApiServer: the service that listens, serves the application with uvicorn, and drains."""

from __future__ import annotations

import dataclasses
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import anyio.abc
import uvicorn
from starlette.applications import Starlette

from hali.api import dashboard_socket
from hali.api.app import build_app
from hali.api.base import ApiDeps
from hali.api.binding import Bind, listen, url_of
from hali.api.connections import Connections
from hali.api.http import GuardedProtocol, protocol
from hali.model.errors import ConfigError, Failed
from hali.runtime.log import get_logger

log = get_logger(__name__)

WAITING = 4096  # connections the kernel keeps for us: one that it drops tries again after a second only
AT_A_TIME = 64  # accepted in one turn of the loop; in a flood a newcomer is read before 1,000 others have come after it
LAST_WORDS_S = 1.0  # for the error events of replies that were cut to go out


class _Uvicorn(uvicorn.Server):
    """uvicorn inside our loop: the signals stay the daemon's, and it tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()
        self.finished = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(WAITING)  # asyncio asked for as many as it accepts at a time
        self.listening.set()


class ApiServer:
    """The HTTP API as a service. Give its Spec a stop time limit above `limits.drain_s` + 2 s."""

    def __init__(self, deps: ApiDeps, bind: Bind | None = None) -> None:
        self._bind = bind or Bind()
        self._deps = dataclasses.replace(deps, require_key=deps.require_key or not self._bind.loopback)
        self.connections: Connections[GuardedProtocol] = Connections(deps.limits)
        self._address: str | None = None

    @property
    def address(self) -> str | None:
        """`http://127.0.0.1:47433`: where it listens now, or None."""
        return self._address

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then let open replies end; `PortInUse`, `ConfigError` if it cannot listen as told."""
        if self._deps.require_key and not self._deps.keys:
            raise ConfigError(f"the API on {self._bind.host} requires a key, and there is none")
        with listen(self._bind) as sock:
            server = _Uvicorn(self._config(build_app(self._deps)))
            self._address = url_of(sock)
            try:
                await self._serve(server, sock, task_status)
            finally:
                self._address = None

    async def _serve(self, server: _Uvicorn, sock: socket.socket, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: self._deps.background.run(task_status=task_status))
            group.start_soon(_shielded, server, sock)
            try:
                await server.listening.wait()
                log.info("api.listening", address=self._address)
                task_status.started()
                await server.finished.wait()  # until we are cancelled: then the rest is the drain
                raise Failed("the HTTP server ended by itself")
            finally:
                with anyio.CancelScope(shield=True):
                    await self._drain(server)

    async def _drain(self, server: _Uvicorn) -> None:
        """No new connections; open replies have `drain_s` to end, then they are cut with an error event."""
        server.should_exit = True
        with anyio.move_on_after(self._deps.limits.drain_s):
            await server.finished.wait()
            return
        log.info("api.cutting", replies=len(self._deps.replies))
        self._deps.replies.cut()
        with anyio.move_on_after(LAST_WORDS_S):
            await server.finished.wait()
            return
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await server.finished.wait()

    def _config(self, app: Starlette) -> uvicorn.Config:
        limits = self._deps.limits
        return uvicorn.Config(
            app,
            http=protocol(limits, self.connections),
            **dashboard_socket.settings(),
            lifespan="off",
            log_config=None,  # its loggers pass to ours …
            log_level="error",  # … but not a line for each bad request
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=AT_A_TIME,
            workers=1,  # or WEB_CONCURRENCY of the environment would decide
            timeout_keep_alive=limits.keep_alive_s,
            # The last resort behind our own drain, which ends before it.
            timeout_graceful_shutdown=math.ceil(limits.drain_s + 2 * LAST_WORDS_S),
            h11_max_incomplete_event_size=limits.head_bytes,
        )


async def _shielded(server: _Uvicorn, sock: socket.socket) -> None:
    # Cancellation reaches uvicorn only as `should_exit`: it would drop the open replies otherwise.
    with anyio.CancelScope(shield=True):
        try:
            await server.serve(sockets=[sock])
        finally:
            server.listening.set()
            server.finished.set()
