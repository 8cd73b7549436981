"""The interface through which the programs of one machine reach each other."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys

from hali.model.errors import Failed

DOWN = "the loopback interface is down, so no program can reach the daemon"
BRING_UP = "ip link set lo up"  # as root
SIOCGIFFLAGS, IFF_UP, IFREQ = 0x8913, 1, struct.Struct("16sH22x")  # netdevice(7)


def is_up() -> bool:
    """False where 127.0.0.1 can be listened on and never reached: in a network namespace that nobody has set up. Linux only."""
    if sys.platform != "linux":
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            told = fcntl.ioctl(sock, SIOCGIFFLAGS, IFREQ.pack(b"lo", 0))
        except OSError:  # of another name, or not ours to know
            return True
    return bool(IFREQ.unpack(told)[1] & IFF_UP)


def need() -> None:
    """Failed where it is down, before anybody waits for an answer that cannot come."""
    if not is_up():
        raise Failed(DOWN, hint=f"`{BRING_UP}`, as root, brings it up")
