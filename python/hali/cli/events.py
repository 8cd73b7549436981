"""`hali events`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.live import cut
from hali.cli.output import Output, current
from hali.model.errors import ExitCode

app = new_app()
WHOLE = 10_000  # columns; a line of a log is cut by nobody


@app.command()
def events(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
) -> None:
    """What the daemon did last: models fetched, engines loaded, services that failed; times are local. Exit code 4 when it does not run.

    With --json one object a line: `seq` (grows by one with each event of one run of the daemon), `ts` (Unix time), `kind`, `text`,
    `toast_level`, `fields`; with --follow also `{"missed": N}` where events came faster than they were read.
    """
    out = current(ctx)
    with control.connect() as client:
        if not follow:
            for event in client.call("events")["events"]:
                _show(out, event)
            return
        try:
            for _, event in client.stream("events", follow=True):
                _show(out, event)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _show(out: Output, event: dict[str, Any]) -> None:
    if out.as_json:
        out.json(event, line=True)
    elif "missed" in event:
        out.line(f"… {event['missed']} more")
    elif "text" in event:
        clock = time.strftime("%H:%M:%S", time.localtime(event["ts"]))
        out.line(cut(f"{clock}  {event['kind']:<20}  {event['text']}", WHOLE))
