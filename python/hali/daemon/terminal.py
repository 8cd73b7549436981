"""A daemon in user mode ends with the terminal it was started from; one without a terminal stays."""

from __future__ import annotations

import os

import anyio

POLL_S = 1.0  # where the kernel cannot tell: a daemon that outlives its terminal by a second harms nobody


async def wait_for_terminal_end() -> None:
    """Return when the session's leader (the shell) ends; never for a session of our own or without a terminal."""
    leader = os.getsid(0)
    if leader == os.getpid() or not _has_terminal():
        await anyio.sleep_forever()
    try:
        fd = os.pidfd_open(leader)
    except (AttributeError, OSError):
        while os.getsid(0) == leader and _exists(leader):  # noqa: ASYNC110  # nothing tells of another process's end
            await anyio.sleep(POLL_S)
        return
    try:
        await anyio.wait_readable(fd)
    finally:
        os.close(fd)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
