"""Trying in a forked child what may hang, crash or eat memory. Worker only."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable

CPU_S = 1  # ordinary schemas and grammars take milliseconds; RLIMIT_CPU counts whole seconds
WALL_S = 10.0  # on a busy machine a second of CPU takes longer
MEMORY_BYTES = 1 << 30  # more than it has now
_POLL_S = 0.001


def survives(task: Callable[[], object]) -> bool:
    """Whether `task` returns in a copy of this process within the limits. OSError if there can be no copy.

    The copy has only this thread, so `task` must not wait for another one.
    """
    child = os.fork()
    if child == 0:
        _attempt(task)
    deadline = time.monotonic() + WALL_S
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(_POLL_S)


def _attempt(task: Callable[[], object]) -> None:
    """In the child: never returns, never cleans up what is the parent's."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _limit_memory()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a crash is an expected answer here, not news
        task()
        code = 0
    finally:
        os._exit(code)


def _limit_memory() -> None:
    if sys.platform != "linux":
        return  # no cheap way to ask for the present size; the CPU limit bounds it too
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = size + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
