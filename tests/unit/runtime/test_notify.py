"""Datagrams for a service manager: who is spoken to, how long it may take, what cannot be slipped in."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import anyio
import pytest

from hali.runtime import notify
from hali.runtime.notify import Notifier


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    sock.settimeout(30)
    return sock


def fill(sock: socket.socket) -> int:
    """Send until the other end takes no more; how many."""
    sent = 0
    while True:
        try:
            sock.send(b"x")
        except BlockingIOError:
            return sent
        sent += 1


def test_the_variables_are_taken_so_that_no_child_speaks_for_us() -> None:
    env = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    notifier = Notifier(env)
    assert env == {"PATH": "/bin"} and notifier.heard and notifier.watchdog_s == 2.0


@pytest.mark.parametrize("usec", ["", "0", "-1", "soon", "１"])
def test_without_a_limit_in_numbers_nobody_watches(usec: str) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": usec}).watchdog_s is None


def test_a_watchdog_for_another_process_is_none_for_us() -> None:
    assert Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}).watchdog_s is None


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
async def test_where_nobody_listens_nothing_happens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert not notifier.heard
    await notifier.ready("x")


async def test_a_line_break_in_a_status_begins_no_assignment(tmp_path: Path) -> None:
    with listening(tmp_path / "s") as sock:
        await Notifier({"NOTIFY_SOCKET": str(tmp_path / "s")}).status("all\nWATCHDOG=1\nwell")
        assert sock.recv(1000) == b"STATUS=all WATCHDOG=1 well"


async def test_a_manager_that_is_gone_or_full_costs_a_while_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).alive()
    monkeypatch.setattr(notify, "SEND_S", 0.05)
    with listening(tmp_path / "s") as sock, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        filler.connect(str(tmp_path / "s"))
        waiting = fill(filler)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "s")})
        with anyio.fail_after(30):
            await notifier.alive()
        assert {sock.recv(100) for _ in range(waiting)} == {b"x"}  # what could not be sent is not sent later either
        await notifier.alive()
        assert sock.recv(100) == b"WATCHDOG=1"
