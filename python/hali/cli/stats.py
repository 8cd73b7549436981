"""`hali stats`."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from typing import Annotated

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.dashboard import open_dashboard
from hali.cli.live import live
from hali.cli.output import Output, current
from hali.cli.prompting import in_foreground, no_echo
from hali.cli.stats_screen import SPARK, report, screen
from hali.daemon.client import DaemonClient
from hali.model.errors import ExitCode, UsageError

app = new_app()
EVERY_S = 1.0  # people read no faster


@app.command()
def stats(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on every second, also without a terminal.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print it once, also on a terminal.")] = False,
    web: Annotated[bool, typer.Option("--web", help="Open the dashboard in a browser instead.")] = False,
) -> None:
    """Transfer rates, totals, requests, models, engines and what happened last: live on a terminal until Ctrl-C, once elsewhere.

    Starts the daemon when it does not run. With --json one object (with --watch one a line): `uptime`, the fields of `hali pause`,
    `down_rate`, `up_rate` (bytes a second, of all sources), `down_total`, `up_total` (bytes by torrents since the daemon began),
    `peers`, `models` (`model_id`, `sha256`, `status`, `progress`, `down_rate`, `up_rate`, `peers`, `uploaded` and `ratio` of all time),
    `jobs` (pulls and imports under way), `lan_traffic` (as in `hali daemon status`), `inference`, `engines` (as in `hali ps`),
    `services` (those that are not ready, as in `hali daemon status`), `activity` (the last events, as in `hali events`).

    With --web and --json: `url`, and no browser is opened.
    """
    out = current(ctx)
    if watch and once:
        raise UsageError("--watch and --once exclude each other")
    if web:
        open_dashboard(out)
        return
    try:
        with control.needed(out) as client:
            if sys.stdout.isatty() and out.animated and in_foreground() and not once:
                _watch(out, client)
            else:
                _print(out, client, watch=watch)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _watch(out: Output, client: DaemonClient) -> None:
    """Draw until Ctrl-C."""
    rates: deque[tuple[float, float]] = deque(maxlen=SPARK)
    with no_echo(), live(color=out.color) as shown:
        while True:
            found = client.call("stats")
            rates.append((found["down_rate"], found["up_rate"]))
            shown.draw(screen(found, list(rates), *shown.size))
            shown.wait(EVERY_S)


def _print(out: Output, client: DaemonClient, *, watch: bool) -> None:
    while True:
        found = client.call("stats")
        if out.as_json:
            out.json(found, line=True)
        for line in report(found, shutil.get_terminal_size().columns):
            out.line(line)
        if not watch:
            return
        time.sleep(EVERY_S)
