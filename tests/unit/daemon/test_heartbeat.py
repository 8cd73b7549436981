"""A daemon says that it lives while its essential services do, and only then."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from hali.daemon.heartbeat import describe, keep_telling
from hali.runtime.notify import Notifier
from hali.runtime.supervisor import Restart, Spec, Status, Supervisor

WATCHDOG_USEC = 20_000


class Breakable:
    """Ready until it is told to fail; then it takes `for_s` seconds to become ready again."""

    def __init__(self) -> None:
        self.broken, self.mended = anyio.Event(), anyio.Event()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        if self.broken.is_set():
            await self.mended.wait()
            task_status.started()
            await anyio.sleep_forever()
        task_status.started()
        await self.broken.wait()
        raise RuntimeError("it broke")


class Listener:
    """What a service manager would hear."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.setblocking(False)
        self.env = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_USEC), "WATCHDOG_PID": str(os.getpid())}

    async def next(self) -> str:
        await anyio.wait_readable(self.sock)
        return self.sock.recv(65536).decode()

    def waiting(self) -> str:
        """All that was said and not yet heard."""
        said = ""
        while True:
            try:
                said += self.sock.recv(65536).decode()
            except BlockingIOError:
                return said

    async def until(self, text: str) -> str:
        with anyio.fail_after(30):
            while text not in (said := await self.next()):
                pass
        return said


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    found = Listener(tmp_path / "socket")
    yield found
    found.sock.close()


class Looks:
    """The supervisor's statuses, and how often they were looked at."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor, self._count = supervisor, 0

    def __call__(self) -> list[Status]:
        self._count += 1
        return self._supervisor.statuses()

    async def more(self, times: int) -> None:
        """Wait until what follows so many further looks has been done."""
        wanted = self._count + times + 1
        with anyio.fail_after(30):
            while self._count < wanted:
                await anyio.sleep(0.001)


@asynccontextmanager
async def telling(listener: Listener, service: Breakable, *, essential: bool) -> AsyncIterator[Looks]:
    quick = Restart(first_s=0.001, max_s=0.002)
    supervisor = Supervisor([Spec("Part", lambda: service, essential=essential, restart=quick)])
    async with anyio.create_task_group() as group:
        await group.start(supervisor.run)
        looks = Looks(supervisor)
        group.start_soon(keep_telling, Notifier(listener.env), looks)
        yield looks
        group.cancel_scope.cancel()


async def test_it_is_silent_while_an_essential_service_is_down_and_says_which(listener: Listener) -> None:
    service = Breakable()
    async with telling(listener, service, essential=True) as looks:
        await listener.until("WATCHDOG=1")
        service.broken.set()
        assert "; Part " in await listener.until("STATUS=0 of 1 services ready")  # backoff or starting
        await looks.more(5)
        assert "WATCHDOG" not in listener.waiting(), "it said that it lives while it was down"
        service.mended.set()
        await listener.until("WATCHDOG=1")


async def test_a_service_that_is_not_essential_is_told_of_and_no_reason_to_be_ended(listener: Listener) -> None:
    service = Breakable()
    async with telling(listener, service, essential=False):
        service.broken.set()
        await listener.until("STATUS=0 of 1 services ready")
        await listener.until("WATCHDOG=1")


def test_what_is_wrong_is_told_in_one_line() -> None:
    statuses = [Status("A", "ready", True), Status("B", "backoff", False, 2, "no network")]
    assert describe(statuses) == "1 of 2 services ready; B backoff: no network"
