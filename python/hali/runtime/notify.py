"""What a service manager wants to hear of this process: systemd's protocol, datagrams to the socket that `NOTIFY_SOCKET` names.

Protocol: sd_notify(3). Without that variable nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import anyio

from hali.runtime.log import get_logger

log = get_logger(__name__)

SEND_S = 2.0  # a manager whose queue stays full this long is itself stuck; the process must not wait for it
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Tells the service manager about this process; the variables are taken out of `env`, so that no child speaks for it."""

    def __init__(self, env: MutableMapping[str, str] | None = None) -> None:
        env = os.environ if env is None else env
        found = {name: env.pop(name, "") for name in VARIABLES}
        self._address = _address(found["NOTIFY_SOCKET"])
        self.watchdog_s = _watchdog(found["WATCHDOG_USEC"], found["WATCHDOG_PID"]) if self._address else None
        """How long the manager lets us be silent; None where it does not watch."""

    @property
    def heard(self) -> bool:
        """True where a manager listens."""
        return self._address is not None

    async def ready(self, status: str) -> None:
        """The process answers."""
        await self._tell("READY=1", _status(status))

    async def stopping(self) -> None:
        """The process begins to end."""
        await self._tell("STOPPING=1", _status("stopping"))

    async def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        await self._tell(_status(text))

    async def alive(self) -> None:
        """The process does its work; said at least every `watchdog_s` seconds, or the manager ends it."""
        await self._tell("WATCHDOG=1")

    async def _tell(self, *assignments: str) -> None:
        if self._address is None:
            return
        # A socket each time: after a restart of the manager the old one would lead nowhere.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.connect(self._address)
                with anyio.fail_after(SEND_S):
                    await _send(sock, "\n".join(assignments).encode())
            except OSError as exc:  # TimeoutError too
                log.warning("service.notify_failed", said=assignments[0], error=str(exc) or "no room in its queue")


async def _send(sock: socket.socket, data: bytes) -> None:
    while True:
        try:
            sock.send(data)
        except BlockingIOError:
            await anyio.wait_writable(sock)
        else:
            return


def _address(text: str) -> str | None:
    """A path, or with `@` a name in Linux's abstract namespace; None for what we cannot speak to (vsock) or for nothing."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _watchdog(usec: str, pid: str) -> float | None:
    if not (usec.isascii() and usec.isdigit() and int(usec) > 0) or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"  # a line break would begin the next assignment
