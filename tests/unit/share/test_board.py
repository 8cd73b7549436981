"""Jobs that are remembered, and those that could not be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hali.model.errors import NoSpace
from hali.runtime.channels import Receiver, Sender, mailbox
from hali.share.board import KEPT, JobBoard
from hali.share.job import Job, JobSpec
from hali.share.queue import WaitingRoom
from hali.store.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.blocking_ok]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "hali.db")
    yield made
    made.close()


@pytest.fixture
def board(database: Database) -> Iterator[JobBoard]:
    ends: tuple[Sender[Job], Receiver[Job]] = mailbox("jobs", 8)
    yield JobBoard(database, ends[0], WaitingRoom(4))
    for end in ends:
        end.close()


async def test_a_job_of_a_hali_that_made_other_ids_is_done_once(database: Database, board: JobBoard) -> None:
    spec = JobSpec("pull", "smollm2")
    database.add_job("an old id", "pull", msgspec.json.encode(spec).decode())
    (job,) = await board.unfinished()
    assert job.spec == spec
    await board.forget(job)
    assert database.jobs() == []


async def test_a_job_cancelled_while_its_manager_died_is_cancelled_for_the_next_one(board: JobBoard) -> None:
    cancelled, other = [await board.submit(JobSpec("pull", what)) for what in ("smollm2", "phi")]
    with cancelled.scope, other.scope:  # of the manager that dies
        cancelled.scope.cancel()
    assert [(job.spec.what, job.scope.cancel_called) for job in await board.unfinished()] == [
        ("smollm2", True),
        ("phi", False),
    ]


def test_fields_that_later_versions_add_change_no_id() -> None:
    assert msgspec.json.decode(msgspec.json.encode(JobSpec("pull", "x"))) == {"kind": "pull", "what": "x"}


async def test_a_job_that_could_not_be_written_down_does_not_stand_in_the_way_of_the_next_try(
    database: Database, board: JobBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = JobSpec("pull", "smollm2")

    def full(*_: object) -> None:
        raise NoSpace("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(database, "add_job", full)
        with pytest.raises(NoSpace):
            await board.submit(spec)
    again: Job = await board.submit(spec)
    assert not again.is_over and board.active() == [again]
    assert [row[0] for row in database.jobs()] == [spec.id]


async def test_a_row_that_cannot_be_read_keeps_no_other_job_from_going_on(database: Database, board: JobBoard) -> None:
    spec = JobSpec("pull", "smollm2")
    database.add_job("damaged", "pull", '{"kind": "pull", "what"')
    database.add_job(spec.id, "pull", msgspec.json.encode(spec).decode())
    assert [job.spec for job in await board.unfinished()] == [spec]
    assert [job_id for job_id, _, _ in database.jobs()] == [spec.id]


async def test_a_job_that_was_asked_for_again_is_remembered_by_its_last_end(board: JobBoard) -> None:
    again = await board.submit(JobSpec("pull", "again"))
    again.fail(NoSpace("full"))
    for number in range(KEPT):
        (await board.submit(JobSpec("pull", str(number)))).fail(NoSpace("full"))
    again = await board.submit(JobSpec("pull", "again"))
    again.fail(NoSpace("full"))
    (await board.submit(JobSpec("pull", "another"))).fail(NoSpace("full"))
    assert board.get(again.spec.id) is again
