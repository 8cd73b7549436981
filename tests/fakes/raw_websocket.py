"""A WebSocket client on a bare socket: it says exactly what a test wants, and reads only when it is told to."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

PATIENCE_S = 30.0  # for what should take well under a second
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


class RawWebSocket:
    """`address` as http://host:port. `buffer`: bytes that the kernel keeps for us while we do not read."""

    def __init__(self, address: str, *, buffer: int | None = None) -> None:
        self.host = address.removeprefix("http://")
        name, _, port = self.host.rpartition(":")
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect((name, int(port)))
        self._received = b""

    def __enter__(self) -> RawWebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, path: str, headers: Sequence[str], method: str = "GET", body: str = "") -> int:
        """Send a request as it stands; the status of the answer."""
        head = [f"{method} {path} HTTP/1.1", *headers]
        self.socket.sendall("\r\n".join([*head, "", body]).encode())
        while b"\r\n\r\n" not in self._received:
            if not (more := self.socket.recv(65536)):
                raise ConnectionError("closed before an answer")
            self._received += more
        answer, _, self._received = self._received.partition(b"\r\n\r\n")
        return int(answer.split()[1])

    def shake_hands(self, ticket: str | None, headers: Sequence[str] | None = None) -> int:
        """The status of a handshake; as our own page makes it, unless `headers` (Host and Origin) are others."""
        own = (f"Host: {self.host}", f"Origin: http://{self.host}")
        path = "/dashboard/ws" if ticket is None else f"/dashboard/ws?ticket={ticket}"
        return self.ask(path, [*(own if headers is None else headers), *HANDSHAKE])

    def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload; `ConnectionError` when the server has closed."""
        head = self._exactly(2)
        length = head[1]
        assert not length & 0x80, "servers do not mask"
        if length == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._exactly(8))
        return head[0] & 0x0F, self._exactly(length)

    def told(self) -> Iterator[dict[str, Any]]:
        """What the dashboard tells, until it closes."""
        while True:
            opcode, payload = self.frame()
            if opcode == TEXT:
                yield json.loads(payload)
            elif opcode == CLOSE:
                return

    def say(self, opcode: int, payload: bytes = b"") -> None:
        """Send a frame, masked as clients must."""
        self.socket.sendall(masked(opcode, payload))

    def reset(self) -> None:
        """Leave at once, as a program that is killed with data unread."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            if not (more := self.socket.recv(65536)):
                raise ConnectionError("closed by the server")
            self._received += more
        found, self._received = self._received[:count], self._received[count:]
        return found


def masked(opcode: int, payload: bytes) -> bytes:
    """A frame of at most 125 bytes."""
    mask = os.urandom(4)
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + body


def ticket_of(address: str, **headers: str) -> str:
    """A ticket, as the page asks for it."""
    with closing(http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE_S)) as connection:
        connection.request("POST", "/dashboard/ticket", "{}", {"content-type": "application/json", **headers})
        with connection.getresponse() as response:
            found = json.loads(response.read())
            assert response.status == 200, found
    return str(found["ticket"])
