"""What viewers are told of jobs: one beginning, and one end at most."""

from __future__ import annotations

from typing import Any

import pytest

from hali.model.activity import ActivityEvent
from hali.model.errors import Cancelled, HaliError, NotFound
from hali.runtime.activity import Activity
from hali.share.job import Job, JobSpec
from hali.share.job_telling import JobTeller

pytestmark = pytest.mark.anyio
PULL, ADD = JobSpec("pull", "owner/repo"), JobSpec("add", "/files/x.gguf")
DONE, KNOWN = {"model_id": "x:1b", "from_store": False}, {"model_id": "x:1b", "from_store": True}


async def told(spec: JobSpec, outcome: dict[str, Any] | HaliError) -> list[tuple[str, dict[str, Any]]]:
    """Kinds and fields of what is told of a job that ends so."""
    activity, job = Activity(), Job(spec)
    teller = JobTeller(activity)
    with activity.events.subscribe() as events:
        teller.began(job)
        if isinstance(outcome, HaliError):
            job.fail(outcome)
        else:
            job.finish(outcome)
        teller.ended(job)
        found = [await anext(events) for _ in range(activity.seq)]
    return [(event.kind, event.fields) for event in found if isinstance(event, ActivityEvent)]


OURS = {"what": PULL.what, "job": PULL.id}


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        (DONE, [("pull.finished", {**OURS, "model": "x:1b"})]),
        (KNOWN, [("pull.finished", {**OURS, "model": "x:1b"})]),
        (NotFound("no such"), [("pull.failed", {**OURS, "error": "no such"})]),
        (Cancelled("stopped"), [("pull.cancelled", OURS)]),
    ],
)
async def test_a_pull_begins_and_ends_in_one_way(outcome: Any, end: list[Any]) -> None:
    assert await told(PULL, outcome) == [("pull.started", OURS), *end]


@pytest.mark.parametrize(
    ("outcome", "end"), [(DONE, [("model.added", {"model": "x:1b"})]), (KNOWN, []), (NotFound("no such"), [])]
)
async def test_an_import_is_told_when_it_brought_something(outcome: Any, end: list[Any]) -> None:
    assert await told(ADD, outcome) == end
