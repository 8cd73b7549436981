"""The CLI's side of the IPC: plain blocking sockets, because a command that prints a table needs no event loop."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from hali.config import last_exit
from hali.config.paths import Paths
from hali.daemon.address import is_locked
from hali.model.errors import Failed, HaliError, NotRunning, ProtocolError, UsageError, from_wire

UNREACHED = "see `hali logs` or `hali daemon restart`"
CONNECT_S = 3.0
ANSWER_S = 60.0  # an idle daemon answers in milliseconds; one that starts an engine or scans a disk may take longer


class DaemonClient:
    """One connection to the daemon of `paths`. NotRunning when there is none; a stale address file is detected, not believed."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        if not is_locked(paths):  # what a killed daemon left in `daemon.addr` may be anybody's port by now
            raise NotRunning("Daemon is not running.", hint="start it with `hali daemon start`")
        try:
            host, _, port = paths.address.read_text().strip().rpartition(":")
            self._token = paths.token.read_text().strip()
            self._socket = socket.create_connection((host, int(port)), timeout=CONNECT_S)
        except (OSError, ValueError, OverflowError) as exc:
            raise NotRunning(f"{self._who()} cannot be reached", hint=UNREACHED) from exc
        self._lines = self._socket.makefile("rb")
        self._next_id = 0

    def call(self, method: str, *, timeout: float | None = ANSWER_S, **params: Any) -> dict[str, Any]:
        """Send one request and return its result, dropping events on the way; raises the daemon's error."""
        result: dict[str, Any] = {}
        for kind, value in self.stream(method, timeout=timeout, **params):
            if kind == "result":
                result = value
        return result

    def stream(
        self, method: str, *, timeout: float | None = None, **params: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """("event", …) as they come, then one ("result", …); raises the daemon's error, UsageError for a text that cannot be sent."""
        for value in params.values():
            if isinstance(value, str):
                _sendable(value)
        self._next_id += 1
        self._socket.settimeout(timeout)
        request = {"method": method, "token": self._token, "id": self._next_id, **params}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while True:
                message = self._receive()
                if message.get("id") not in (self._next_id, None):
                    continue
                if "event" in message:
                    yield "event", message["event"]
                    continue
                if not message.get("ok"):
                    raise _told(method, from_wire(message.get("error") or {}))
                yield "result", {k: v for k, v in message.items() if k not in ("id", "ok")}
                return
        except TimeoutError:
            raise NotRunning(
                f"{self._who()} did not answer {method!r} in {timeout:.0f} s",
                hint=UNREACHED,
            ) from None
        except ConnectionError:
            raise NotRunning(
                "the daemon went away during the request", hint="run the command again; finished pieces are kept"
            ) from None

    def _receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise ProtocolError("what answers at daemon.addr is not a hali daemon")
        return message

    def _who(self) -> str:
        run = last_exit.running(self._paths)
        return "the daemon" if run is None else f"the daemon (PID {run.pid})"

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _told(method: str, error: HaliError) -> HaliError:
    """The daemon's error; a method that it does not know is a sign that it was started by another version of hali."""
    if error.code != "unknown_method":
        return error
    told = f"the daemon that runs does not know {method!r}: it is of another version of hali"
    return Failed(told, hint="`hali daemon restart` starts that of this one", code=error.code)


def _sendable(text: str) -> None:
    """UsageError for what Python made of bytes that the locale cannot read: JSON has no place for it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        pass
    else:
        return
    raw = os.fsencode(text)
    shown = ascii(raw)[1:]
    try:
        raw.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{shown} is not UTF-8", hint="give it a name in UTF-8") from None
    raise UsageError(f"{shown} cannot be read in this locale", hint="choose one with UTF-8, or set PYTHONUTF8=1")
