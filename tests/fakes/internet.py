"""A small internet: names, and public addresses at which local servers stand. Only the resolver and the socket are not real."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import anyio.abc
import pytest

_getaddrinfo, _connect_tcp = socket.getaddrinfo, anyio.connect_tcp


class Internet:
    """`name` gives a name addresses, one list for each lookup (the last one stays); `serve` puts a local port at an address."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lookups: list[str] = []
        self.dialled: list[str] = []
        self._names: dict[str, list[list[str]]] = {}
        self._ports: dict[str, int] = {}
        patch.setattr(socket, "getaddrinfo", self._resolve)
        patch.setattr(anyio, "connect_tcp", self._connect)

    def name(self, name: str, *answers: list[str]) -> None:
        """Each lookup of `name` gets the next answer."""
        self._names[name] = list(answers)

    def serve(self, address: str, url: str) -> None:
        """Connections to `address`, at any port, end at the local server of `url`."""
        self._ports[address] = int(url.rpartition(":")[2])

    def hole(self, address: str) -> None:
        """Connections to `address` are neither made nor refused."""
        self._ports[address] = 0

    def _resolve(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        host = host.decode() if isinstance(host, bytes) else host
        if host not in self._names:
            flags = 0 if "localhost" in host.lower() else socket.AI_NUMERICHOST
            return _getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags)
        self.lookups.append(host)
        answers = self._names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [found for address in addresses for found in _getaddrinfo(address, port, 0, socket.SOCK_STREAM)]

    async def _connect(self, remote_host: Any, remote_port: int, **kwargs: Any) -> anyio.abc.SocketStream:
        self.dialled.append(str(remote_host))
        if remote_host not in self._ports:
            return await _connect_tcp(remote_host, remote_port, **kwargs)
        if self._ports[remote_host] == 0:
            await anyio.sleep_forever()
        return await _connect_tcp("127.0.0.1", self._ports[remote_host])
