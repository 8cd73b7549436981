"""The real HTTP server with a dashboard, in a process of its own: `python -m tests.fakes.dashboard_process [unbounded]`.

Prints its address; then each line of standard input, a JSON object, tells events, and is answered by a line when all are told.
"""

from __future__ import annotations

import json
import sys
from typing import Any, cast

import anyio
import anyio.to_thread

from hali.api import ApiDeps, ApiServer, Bind
from hali.runtime.activity import REPLAYED
from hali.runtime.channels import Bus
from tests.fakes.api_process import OneModel, Scripted
from tests.fakes.dashboards import MemoryDashboard

NO_BOUND = 10**9


class Process:
    """`unbounded`: without the defence, a queue for each client that grows as it likes."""

    def __init__(self, *, unbounded: bool) -> None:
        self._dashboard = MemoryDashboard()
        if unbounded:
            self._dashboard.activity.events = Bus(capacity=NO_BOUND, history=REPLAYED)

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            deps = ApiDeps(cast(Any, OneModel), cast(Any, Scripted()), dashboard=self._dashboard)
            server = ApiServer(deps, Bind("127.0.0.1", 0))
            await group.start(lambda *, task_status: server.run(task_status=task_status))
            print(server.address, flush=True)
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                await self._tell(**json.loads(line))
                print(
                    json.dumps({"told": self._dashboard.activity.seq, "viewers": self._dashboard.viewers}), flush=True
                )
            group.cancel_scope.cancel()

    async def _tell(self, count: int, burst: int, pause_s: float, size: int) -> None:
        """`count` events of `size` bytes, `burst` of them between two pauses."""
        for number in range(count):
            self._dashboard.activity.tell("daemon.stopping", "x" * size)
            if number % burst == burst - 1:
                await anyio.sleep(pause_s)


if __name__ == "__main__":
    anyio.run(Process(unbounded=sys.argv[1:] == ["unbounded"]).run)
