"""What single methods of the IPC promise."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import msgspec
import pytest

from hali.daemon.ipc import nobody
from hali.daemon.methods import Methods
from hali.daemon.node import Node
from hali.model.errors import Cancelled, UsageError
from hali.share.job import Job, JobSpec
from hali.transfer.regulator import Allowance
from hali.transfer.throttle import Caps

pytestmark = pytest.mark.anyio


async def test_cancel_answers_when_the_job_has_stopped_not_before() -> None:
    job, letting_go = Job(JobSpec("pull", "smollm2")), anyio.Event()

    async def slow_to_stop() -> None:
        with job.scope:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await letting_go.wait()
        job.fail(Cancelled("smollm2: cancelled"))

    board = SimpleNamespace(active=lambda: [] if job.is_over else [job])
    methods = Methods(cast(Node, SimpleNamespace(board=board)), lambda: None)
    answers: list[Any] = []

    async def ask() -> None:
        answers.append((await methods.cancel({"what": "smollm2"}, lambda _event: None), job.is_over))

    async with anyio.create_task_group() as group:
        group.start_soon(slow_to_stop)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        early = list(answers)
        letting_go.set()

    assert job.scope.cancel_called and early == []
    assert answers == [({"cancelled": 1}, True)]


@pytest.mark.parametrize("seconds", [0, -1, 1e12, 1e300, "1"])
async def test_no_pause_lasts_longer_than_a_clock_can_tell(seconds: Any) -> None:
    paused: list[float] = []

    async def pause(asked: float) -> Any:
        paused.append(asked)
        return Allowance(Caps())

    methods = Methods(cast(Node, SimpleNamespace(regulator=SimpleNamespace(pause=pause))), lambda: None)
    with pytest.raises(UsageError, match="seconds"):
        await methods.pause({"seconds": seconds}, nobody)
    await methods.pause({"seconds": 60}, nobody)
    assert paused == [60]


async def test_a_record_in_a_folder_of_another_encoding_can_be_told_of() -> None:
    async def look() -> None:
        pass

    store = SimpleNamespace(unreadable=lambda: [Path("/models/\udcff/metadata.json")])
    library = SimpleNamespace(look_for_files=look, store=store, entries=list)
    node = SimpleNamespace(library=library, partials=SimpleNamespace(entries=list))
    found = await Methods(cast(Node, node), lambda: None).models({}, nobody)
    assert msgspec.json.decode(msgspec.json.encode(found))["unreadable"] == ["/models/\\udcff/metadata.json"]
