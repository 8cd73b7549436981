"""Somebody who looks at a dashboard: keeps the newest of each part and every event, read by a thread."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.fakes.raw_websocket import RawWebSocket, ticket_of
from tests.nodes import until


class Viewer:
    """What was told so far."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.hello: dict[str, Any] = {}
        self.parts: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.states: list[str] = []  # of the first job, as each newer `stats` told it
        self.missed = 0
        self._socket = RawWebSocket(address)
        assert self._socket.shake_hands(ticket_of(address)) == 101
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for frame in self._socket.told():
                self._take(frame)
        except (ConnectionError, TimeoutError):
            return  # the daemon was killed, or nobody looks any more

    def _take(self, frame: dict[str, Any]) -> None:
        match frame:
            case {"t": "hello"}:
                self.hello = frame
            case {"t": "activity"}:
                self.events.append({**frame["event"], "replay": frame["replay"]})
            case {"t": "lagged"}:
                self.missed += frame["missed"]
            case {"t": "rate"}:
                self.parts["rates"].append(frame["value"])
            case {"t": "part"}:
                self.parts[frame["name"]] = frame["value"]
                if frame["name"] == "stats":
                    self.states += [job["state"] for job in frame["value"]["jobs"]]

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    def hears(self, kind: str) -> dict[str, Any]:
        """Wait for the first event of that kind."""
        until(lambda: kind in self.kinds(), f"{kind} is told")
        return next(event for event in self.events if event["kind"] == kind)

    def press(self, method: str, **params: Any) -> dict[str, Any]:
        """A button."""
        request = urllib.request.Request(
            f"{self.address}/dashboard/call/{method}", json.dumps(params).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read()))

    def ended(self) -> None:
        """Wait until the daemon has closed."""
        self._thread.join(60)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self._socket.socket.shutdown(2)
        self._thread.join(60)
        self._socket.socket.close()


@contextmanager
def viewer(address: str) -> Iterator[Viewer]:
    found = Viewer(address)
    try:
        yield found
    finally:
        try:
            found.close()
        except OSError:  # the daemon closed it
            found.ended()
            found._socket.socket.close()
