"""10,000 events, one client that has stopped reading: the daemon's memory stays, the others go on, the frozen one learns what it missed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from tests.fakes.raw_websocket import RawWebSocket, ticket_of

pytestmark = pytest.mark.alone  # memory while a reader keeps up, which it does when it has a core

EVENTS = 10_000
SIZE = 1_000  # bytes of text: kept for one client, all of them would be 12 MB
GROWTH = 6 * 1024 * 1024  # bytes of resident memory at most: the queues of two clients take 0.3 MB each
WARM_UP = 1_000  # events until buffers and arenas have their size
SMALL_BUFFER = 16 * 1024  # of the kernel, for the frozen client: what lies there was sent


class Server:
    """The process under test."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.fakes.dashboard_process", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def tell(self, count: int, *, burst: int = 50, pause_s: float = 0.001) -> int:
        """Tell events; the number of the last one, when all are told."""
        assert self.process.stdin is not None and self.process.stdout is not None
        wish = {"count": count, "burst": burst, "pause_s": pause_s, "size": SIZE}
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline())["told"])

    @property
    def rss(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    server = Server(*arguments)
    try:
        yield server
        server.process.communicate(timeout=60)  # the end of its standard input
        assert server.process.returncode == 0
    finally:
        server.process.kill()


class Count:
    """What one client got of the events."""

    def __init__(self, socket: RawWebSocket) -> None:
        self._told = socket.told()
        self.received = self.missed = self.last = 0

    def until(self, last: int) -> Count:
        """Read on to the event of that number."""
        while self.last < last:
            frame: dict[str, Any] = next(self._told)
            if frame["t"] == "lagged":
                self.missed += frame["missed"]
            elif frame["t"] == "activity":
                assert frame["event"]["seq"] > self.last
                self.received, self.last = self.received + 1, frame["event"]["seq"]
        return self


class Reader(threading.Thread):
    """A client that reads all the time."""

    def __init__(self, socket: RawWebSocket, last: int) -> None:
        super().__init__()
        self.count, self._goal = Count(socket), last
        self.start()

    def run(self) -> None:
        self.count.until(self._goal)


@contextmanager
def looking(server: Server, *, buffer: int | None = None) -> Iterator[RawWebSocket]:
    with RawWebSocket(server.address, buffer=buffer) as client:
        assert client.shake_hands(ticket_of(server.address)) == 101
        assert next(client.told())["t"] == "hello"
        yield client


def flooded(server: Server, stack: ExitStack, **pace: Any) -> tuple[int, Count, Count]:
    """Tell all the events with one frozen client and one that reads; how much memory grew, and what each client got."""
    frozen = stack.enter_context(looking(server, buffer=SMALL_BUFFER))
    reader = Reader(stack.enter_context(looking(server)), WARM_UP + EVENTS)
    server.tell(WARM_UP, **pace)
    before = server.rss
    last = server.tell(EVENTS, **pace)
    reader.join(60)
    assert reader.count.last == last == WARM_UP + EVENTS  # while the other one still is frozen
    grown = server.rss - before
    return grown, reader.count, Count(frozen).until(last)


def test_memory_is_flat_others_are_current_and_the_frozen_one_is_told_what_it_missed() -> None:
    with serving() as server, ExitStack() as stack:
        grown, current, frozen = flooded(server, stack)
        assert grown < GROWTH
        for client in (current, frozen):
            assert client.received + client.missed == WARM_UP + EVENTS
        assert frozen.missed > EVENTS / 2


def test_without_a_bound_on_the_queue_memory_grows_with_the_events() -> None:
    with serving("unbounded") as server, ExitStack() as stack:
        grown, _, frozen = flooded(server, stack)
        assert grown > GROWTH and frozen.missed == 0


@pytest.mark.long
def test_who_reads_misses_nothing_of_a_thousand_events_a_second() -> None:
    with serving() as server, ExitStack() as stack:
        grown, current, frozen = flooded(server, stack, burst=10, pause_s=0.01)
        assert grown < GROWTH and current.missed == 0
        assert frozen.received + frozen.missed == WARM_UP + EVENTS
