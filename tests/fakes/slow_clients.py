"""Thousands of connections that never finish what they begin, from as many addresses of 127.0.0.0/8 as it takes."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from typing import Literal

from tests.fakes.api_process import LARGE, MODEL_ID

Kind = Literal["headers", "body", "reader"]  # drips the first, drips the second, never reads its reply
PER_ADDRESS = 50  # under every cap by address
DRIP_S = 1.0  # one byte a second and connection


def first_bytes(kind: Kind, authority: str) -> bytes:
    """What a connection sends at once."""
    post = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n"
    if kind == "headers":
        return b"GET /health HTTP/1.1\r\nX-Drip: "
    if kind == "body":
        return f"{post}Content-Length: 100000\r\n\r\n{{".encode()
    ask = {"model": MODEL_ID, "messages": [{"role": "user", "content": "x"}]}
    body = json.dumps(ask | {"max_tokens": LARGE})
    return f"{post}Content-Length: {len(body)}\r\n\r\n{body}".encode()


class SlowClients:
    """`count` connections of these kinds in turn. `drive` works for a while; `alive` are those the server has not closed."""

    def __init__(self, address: str, count: int, kinds: tuple[Kind, ...]) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        self._authority, self._to = f"{host}:{port}", (host, int(port))
        self._kinds, self._count = kinds, count
        self._epoll = select.epoll()
        self.alive: dict[int, tuple[socket.socket, Kind]] = {}  # by descriptor
        self.opened = self.refused = 0

    def open_all(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Connect them all; `meanwhile` is called now and then."""
        for number in range(self._count):
            self._open(number)
            if number % 250 == 249:
                self.drive(0)
                meanwhile()

    def _open(self, number: int) -> None:
        kind = self._kinds[number % len(self._kinds)]
        group = number // PER_ADDRESS + 2
        sock = socket.socket()
        if kind == "reader":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((f"127.{1 + group // 250}.0.{group % 250 + 1}", 0))
        sock.settimeout(10)
        try:
            sock.connect(self._to)
            sock.sendall(first_bytes(kind, self._authority))
        except ConnectionError:
            sock.close()
            self.refused += 1
            return
        sock.setblocking(False)
        self.opened += 1
        self.alive[sock.fileno()] = sock, kind
        # One that never reads learns of the end only: EPOLLRDHUP, or EPOLLERR and EPOLLHUP unasked.
        self._epoll.register(sock, select.EPOLLRDHUP if kind == "reader" else select.EPOLLIN)

    def drive(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Drip and notice who was closed, for `seconds` or until nobody is left."""
        until = time.monotonic() + seconds
        while self.alive:
            self._drip()
            meanwhile()
            turn = min(until, time.monotonic() + DRIP_S)
            self._watch(turn)
            if turn == until:
                return

    def _watch(self, until: float) -> None:
        while self.alive:
            left = until - time.monotonic()
            for descriptor, _ in self._epoll.poll(max(0.0, left), 1000):
                self._notice(descriptor)
            if left <= 0:
                return

    def _drip(self) -> None:
        for descriptor, (sock, kind) in [*self.alive.items()]:
            if kind != "reader":
                try:
                    sock.send(b" ")
                except BlockingIOError:
                    continue
                except OSError:
                    self._gone(descriptor)

    def _notice(self, descriptor: int) -> None:
        sock, kind = self.alive[descriptor]
        try:
            if kind == "reader" or not sock.recv(65536):
                self._gone(descriptor)
        except BlockingIOError:
            return
        except OSError:
            self._gone(descriptor)

    def _gone(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        self.alive.pop(descriptor)[0].close()

    def close(self) -> None:
        """Give up what is left."""
        for descriptor in [*self.alive]:
            self._gone(descriptor)
        self._epoll.close()
