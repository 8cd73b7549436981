"""`hali stats`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.output import Output, current
from hali.model.units import format_bytes, format_rate

app = typer.Typer(add_completion=False)
EVERY_S = 1.0  # people read no faster


@app.command()
def stats(
    ctx: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second until Ctrl-C.")] = False,
) -> None:
    """Transfer rates, totals, models and peers."""
    out = current(ctx)
    client, _ = control.ensure()
    with client:
        while True:
            _show(out, client.call("stats"))
            if not watch:
                return
            time.sleep(EVERY_S)
            out.line()


def _show(out: Output, found: dict[str, Any]) -> None:
    if out.as_json:
        out.json(found, line=True)
        return
    out.line(f"Daemon: running (uptime {found['uptime']})")
    out.line(f"Speeds: ↓ {format_rate(found['down_rate'])}  ↑ {format_rate(found['up_rate'])}")
    out.line(f"Session: ↓ {format_bytes(found['down_total'])}  ↑ {format_bytes(found['up_total'])}")
    rows = [
        (m["model_id"], m["status"], format_rate(m["down_rate"]), format_rate(m["up_rate"]), str(m["peers"])) for m in found["models"]
    ]
    out.table(("MODEL", "STATUS", "↓ SPEED", "↑ SPEED", "PEERS"), rows)
