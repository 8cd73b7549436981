"""`hali stats`."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.bar import describe
from hali.cli.dashboard import open_dashboard
from hali.cli.neighbours import describe_drops
from hali.cli.output import Output, current, table
from hali.cli.pause import worth_telling
from hali.cli.prompting import no_echo
from hali.model.errors import ExitCode
from hali.model.units import format_bytes, format_rate

app = new_app()
EVERY_S = 1.0  # people read no faster


@app.command()
def stats(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on every second, also without a terminal.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print it once, also on a terminal.")] = False,
    web: Annotated[bool, typer.Option("--web", help="Open the dashboard in a browser instead.")] = False,
) -> None:
    """Transfer rates, totals, models and peers: live on a terminal until Ctrl-C, once elsewhere.

    Starts the daemon when it does not run. With --json one object (with --watch one a line): `uptime`, the fields of `hali pause`,
    `down_rate`, `up_rate` (bytes a second, of all sources), `down_total`, `up_total` (bytes by torrents since the daemon began),
    `peers`, `models` (`model_id`, `sha256`, `status`, `progress`, `down_rate`, `up_rate`, `peers`, `uploaded` and `ratio` of all time),
    `jobs` (pulls and imports under way), `lan_traffic` (as in `hali daemon status`), `inference`.

    With --web and --json: `url`, and no browser is opened.
    """
    out = current(ctx)
    if web:
        open_dashboard(out)
        return
    live = sys.stdout.isatty() and out.animated and not once
    drawn = 0
    try:
        with control.needed(out) as client, no_echo() if live else nullcontext():
            while True:
                drawn = _show(out, client.call("stats"), over=drawn if live else None)
                if not (live or watch):
                    return
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _show(out: Output, found: dict[str, Any], over: int | None) -> int:
    """Print it; `over` that many lines of last time, when it is not None. Returns the number of lines."""
    if out.as_json:
        out.json(found, line=True)
        return 0
    size = shutil.get_terminal_size()
    lines = _lines(found, size.columns)
    if over is None:
        for line in lines:
            out.line(line)
        return 0
    # A line that wraps, or more lines than the screen has, could not be drawn over.
    lines = [line[: size.columns - 1] for line in lines[: size.lines - 1]]
    back = f"\x1b[{over}F" if over else ""
    sys.stdout.write(f"{back}\x1b[J" + "".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    return len(lines)


def _lines(found: dict[str, Any], columns: int) -> list[str]:
    rows = [
        (
            m["model_id"],
            m["status"],
            format_rate(m["down_rate"]),
            format_rate(m["up_rate"]),
            format_bytes(m["uploaded"]),
            f"{m['ratio']:.2f}",
            str(m["peers"]),
        )
        for m in found["models"]
    ]
    drops = describe_drops(found["lan_traffic"])
    return [
        f"Daemon: running (uptime {found['uptime']})",
        *worth_telling(found),
        f"Speeds: ↓ {format_rate(found['down_rate'])}  ↑ {format_rate(found['up_rate'])}",
        f"Session: ↓ {format_bytes(found['down_total'])}  ↑ {format_bytes(found['up_total'])}  {count(found['peers'], 'peer')}",
        f"Neighbours: {_neighbours(found['lan_traffic'])}",
        *([drops] if drops else []),
        *[f"{job['kind']} {job['what']}: {describe(job)}" for job in found["jobs"]],
        *table(("MODEL", "STATUS", "↓ SPEED", "↑ SPEED", "SENT", "RATIO", "PEERS"), rows, room=columns),
    ]


def _neighbours(traffic: dict[str, Any] | None) -> str:
    """`2 nodes offer 5 models`."""
    if traffic is None:
        return "not looked for"
    verb = "offers" if traffic["nodes"] == 1 else "offer"
    return f"{count(traffic['nodes'], 'node')} {verb} {count(traffic['models'], 'model')}"


def count(number: int, noun: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
