"""`hali queue`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.bar import describe
from hali.cli.output import current
from hali.cli.pull import known_priority

app = new_app("Pulls under way and waiting. `hali queue` alone lists them.")
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="An id of `hali queue`, its beginning, or WHAT of the pull.")
]


@app.command(name="list")
def show(ctx: typer.Context) -> None:
    """Jobs under way, then those that wait, in the order in which they will begin.

    The key `pull_concurrency` says how many pulls are under way at a time. With --json: `places` and `jobs` (`id`, `kind`, `what`,
    `priority`, `position` in the queue or null, `state`, `name`, `done`, `total`, `rate`, `peers`, `sources`, `waits_s`).
    """
    out = current(ctx)
    with control.connect() as client:
        found = client.call("queue")
    if out.as_json:
        out.json(found)
        return
    rows = [_row(job) for job in found["jobs"]]
    out.table(("JOB", "PLACE", "PRIORITY", "WHAT", "STATE"), rows)


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    place = "—" if job["position"] is None else str(job["position"])
    return job["id"], place, job["priority"], job["what"], describe(job)


@app.command()
def move(
    ctx: typer.Context,
    job: JobArgument,
    priority: Annotated[str, typer.Argument(metavar="PRIORITY", help="high, normal or low.")],
) -> None:
    """Give a waiting job another priority. Within one priority the first to arrive is the first to begin.

    With --json the fields of the job in `hali queue`.
    """
    with control.connect() as client:
        found = client.call("move", job=job, priority=known_priority(priority))["job"]
    where = f", place {found['position']} in the queue" if found["position"] else ""
    current(ctx).result(found, f"{found['what']}: priority {found['priority']}{where}")


@app.command()
def cancel(ctx: typer.Context, job: JobArgument) -> None:
    """Cancel a job, waiting or under way; whole pieces (16 MiB) are kept, and the same pull goes on from there.

    With --json the fields of the job in `hali queue`.
    """
    with control.connect() as client:
        found = client.call("drop", job=job)["job"]
    current(ctx).result(found, f"{found['what']}: cancelled")
