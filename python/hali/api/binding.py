"""The listening socket: which address, which port."""

from __future__ import annotations

import errno
import ipaddress
import socket

import msgspec

from hali.config.checks import listen_address
from hali.model.errors import ConfigError, PortInUse

DEFAULT_PORT = 47433
TRIES = 32  # nodes on one machine before somebody must choose a port
BACKLOG = 256  # connections the kernel holds while the loop is busy for a moment


class Bind(msgspec.Struct, frozen=True):
    """`port=None` is the default port or, when it is taken, the next free one.

    0 any free one; any other that one or none. `last` is tried before: where an earlier server of this daemon was.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    last: int | None = None

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """`host` as an address."""
        return listen_address(self.host)

    @property
    def loopback(self) -> bool:
        """Only this machine can connect."""
        return self.address.is_loopback

    @property
    def ports(self) -> list[int]:
        """The ports to try, in order."""
        first = DEFAULT_PORT if self.port is None else self.port
        ordinary = range(first, first + (TRIES if self.port is None else 1))
        return [*ordinary] if self.last is None else [self.last, *ordinary]


def listen(bind: Bind) -> socket.socket:
    """A listening socket; `PortInUse` when no port is free, `ConfigError` when the address is not this machine's."""
    for port in bind.ports:
        try:
            return _listen(str(bind.address), port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise ConfigError(f"cannot listen on {bind.host} port {port}: {error.strerror}") from error
    taken = f"port {bind.port}" if bind.port is not None else f"ports {DEFAULT_PORT} to {bind.ports[-1]}"
    hint = "set daemon_port to a free port, or to 0"
    raise PortInUse(f"{taken} on {bind.host}: in use by another program", hint=hint, chosen=bool(bind.port))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio turns Nagle's algorithm off only then, and with it on the second part of an answer,
    # or a token, waits 40 ms for the client's delayed acknowledgement of the first.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A restart must not wait for old connections in TIME_WAIT; a live listener still makes bind or listen fail.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket) -> str:
    """`http://127.0.0.1:47433`; a wildcard address is told as the loopback one, which it includes."""
    host, port = sock.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
