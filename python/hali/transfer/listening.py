"""The one port of BitTorrent: free on every address before libtorrent is asked to listen, because it is announced and written in links."""

from __future__ import annotations

import errno
import socket

from hali.model.errors import Failed, PortInUse
from hali.transfer.options import SessionOptions

PORT_TRIES = 5  # a free port may be taken between our look and libtorrent's bind; five times in a row is no accident


def port_in_use(port: int, *, chosen: bool) -> PortInUse:
    """The error, with what to do."""
    return PortInUse(
        f"BitTorrent port {port} is in use by another program",
        hint="set torrent_port to another one, or to 0 for any free one",
        chosen=chosen,
    )


def free_port(options: SessionOptions) -> int:
    """The configured port, or one that is free on every address; PortInUse, Failed for an address this machine has not."""
    for attempt in range(PORT_TRIES):
        port = options.port or (options.preferred_port if attempt == 0 else 0)
        try:
            for address in options.addresses:
                port = _try_bind(address, port)
            return port
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise Failed(f"cannot listen on {', '.join(options.addresses)} port {port}: {exc.strerror}") from None
            if options.port:
                raise port_in_use(options.port, chosen=True) from None
    raise port_in_use(port, chosen=False)


def _try_bind(address: str, port: int) -> int:
    """Bind as libtorrent will and let go; the port number (a free one for 0).

    TCP and UDP: where it cannot have both, libtorrent listens on this address by neither, and says so only of UDP.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if family == socket.AF_INET6 and not _has_ipv6():
        return port
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
            port = int(probe.getsockname()[1])
    return port


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False
