"""`hali registry serve`: the registry as a process of its own, until a signal ends it."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from hali.model.errors import ConfigError, PortInUse, UsageError
from hali.registry.app import Deps, build_app
from hali.registry.http import protocol
from hali.registry.storage import Storage, postgres, sqlite
from hali.runtime.log import get_logger
from hali.runtime.notify import Notifier

log = get_logger(__name__)

DRAIN_S = 10  # for open requests at the end
BACKLOG = 256
LOG = "registry.log"


def open_storage(db: Path, dsn: str | None) -> Storage:
    """PostgreSQL when there is a DSN, else SQLite at `db`; UsageError where no folder can be made for it."""
    if dsn is None:
        try:
            db.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"cannot make {db.parent}: {exc.strerror}", hint="give another file with --db") from None
        return sqlite(db)
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise UsageError("a DSN begins with postgresql://")
    return postgres(dsn)


def listen(address: str) -> socket.socket:
    """A listening socket on `HOST:PORT`; UsageError for another form, PortInUse or ConfigError when that cannot be."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(f"cannot listen on {address!r}", hint="give HOST:PORT, for example 127.0.0.1:47440")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        told, hint = f"cannot listen on {address}: {exc.strerror}", "choose another with --listen"
        if exc.errno == errno.EADDRINUSE:
            raise PortInUse(told, hint=hint, chosen=True) from None
        raise ConfigError(told, hint=hint) from None
    return sock


def serve(storage: Storage, sock: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is told the URL once requests are answered."""
    deps = Deps(storage)
    host, port = sock.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    config = uvicorn.Config(
        build_app(deps),
        http=protocol(deps.bounds),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,  # an address that the client may choose would be no address
        server_header=False,
        workers=1,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=DRAIN_S,
        h11_max_incomplete_event_size=deps.bounds.head,
    )
    server = _Announcing(config, url, ready)
    try:
        server.run(sockets=[sock])
    finally:
        storage.close()
        sock.close()


class _Announcing(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, url: str, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._url, self._ready, self._notifier = url, ready, Notifier()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal once more after an orderly end; an end that was asked for is no failure."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self._ready(self._url)
        log.info("registry.ready", url=self._url)
        await self._notifier.ready(f"registry at {self._url}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say so, then end."""
        log.info("registry.stopping")
        await self._notifier.stopping()
        await super().shutdown(sockets)
