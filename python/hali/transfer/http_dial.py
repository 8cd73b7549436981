"""Connections by checked address: looked up once, refused where the guard says so, and dialled as found.

So a name that answers differently the second time (DNS rebinding) gains nothing, and whoever is refused gets no packet.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from itertools import chain, zip_longest

import anyio
import httpcore
import httpx

from hali.model.errors import Refused
from hali.model.urls import origin
from hali.transfer.http_guard import Reach, reach, reach_of_host
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.proxies import behind_proxy

DNS_TIMEOUT = 10.0  # two tries of the usual 5 s resolver timeout
_Connect = Callable[[str], Awaitable[httpcore.AsyncNetworkStream]]
STAGGER = 0.25  # before the next address is tried beside the first one (RFC 8305)


class Dialer(httpcore.AsyncNetworkBackend):
    """Network backend of one source. `trusted`: `home` was named by the user or the configuration, and may be anywhere;
    redirects may then lead as deep inside as `home` itself lies. Otherwise all of it must be public."""

    def __init__(self, home: str, *, trusted: bool) -> None:
        _, host, port = origin(home)
        self._home = (host, port)
        self._trusted = trusted
        self._deepest = Reach.PUBLIC
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address that answers; Refused when one of them lies too deep inside."""
        addresses = await self.allowed(host, port)
        if not addresses:
            raise httpcore.ConnectError(f"no address for {host}")

        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)

        return await _first_of(addresses, connect)

    async def sleep(self, seconds: float) -> None:
        """Part of the interface."""
        await anyio.sleep(seconds)

    async def allowed(self, host: str, port: int) -> list[str]:
        """The addresses of `host`, none when it has none; Refused if one may not be asked."""
        addresses = await _lookup(host, port)
        depth = max([reach_of_host(host) or Reach.PUBLIC, *map(reach, addresses)])
        if self._trusted and (host.strip("[]").lower(), port) == self._home:
            self._deepest = max(self._deepest, min(depth, Reach.LOOPBACK))
            return addresses
        if depth > self._deepest:
            worst = max(addresses or [host], key=reach)
            raise Refused(
                f"{host} leads to {worst}, an address inside this network",
                hint="links may only name public hosts; give the URL yourself if you trust it",
            )
        return addresses


def http_client(policy: HttpPolicy, dialer: Dialer) -> httpx.AsyncClient:
    """A client for one source: HTTP/1.1, one pooled connection per parallel range, no automatic redirects."""
    limits = httpx.Limits(max_connections=policy.connections, max_keepalive_connections=policy.connections)
    return httpx.AsyncClient(
        transport=None if behind_proxy() else _Transport(dialer, limits),
        limits=limits,
        timeout=httpx.Timeout(policy.stall, connect=policy.connect_timeout, pool=None),
        follow_redirects=False,
        headers={"user-agent": "hali"},
    )


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's own, with connections made by `dialer`: it has no argument for that."""

    def __init__(self, dialer: Dialer, limits: httpx.Limits) -> None:
        super().__init__(verify=_tls())
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=dialer,
        )


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reads some 150 certificates: 25 ms that need not be spent for each source


async def _lookup(host: str, port: int) -> list[str]:
    """All addresses of a name, the families by turns; empty if it has none. IP literals of any spelling are understood."""
    try:
        with anyio.fail_after(DNS_TIMEOUT):
            found = await anyio.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    addresses = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    old = [a for a in addresses if ":" not in a]
    return [a for a in chain(*zip_longest((a for a in addresses if ":" in a), old)) if a is not None]


async def _first_of(addresses: list[str], connect: _Connect) -> httpcore.AsyncNetworkStream:
    """The connection that is there first; the last failure when there is none."""
    if len(addresses) == 1:
        return await connect(addresses[0])
    won: list[httpcore.AsyncNetworkStream] = []
    failures: list[Exception] = []

    async def attempt(address: str, over: anyio.Event) -> None:
        try:
            stream = await connect(address)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            failures.append(error)
            over.set()
            return
        if won:
            await stream.aclose()
        else:
            won.append(stream)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for address in addresses:
            over = anyio.Event()
            group.start_soon(attempt, address, over)
            with anyio.move_on_after(STAGGER):
                await over.wait()
    if not won:
        raise failures[-1]
    return won[0]
