"""`hali daemon start|stop|restart|status|run`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.output import Output, current
from hali.config.paths import from_environment

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Start, stop and look at the daemon.")
# Every configuration key is a flag (`--torrent-port 51413`); they are handed to the daemon as they are, which knows them all.
KEYS_AS_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}
Detach = Annotated[bool, typer.Option("--detach", help="Go on when the terminal closes.")]


@app.command(context_settings=KEYS_AS_FLAGS)
def start(ctx: typer.Context, detach: Detach = False) -> None:
    """Start the daemon in the background; nothing happens when it runs. Takes every configuration key as a flag."""
    out = current(ctx)
    client, started = control.ensure(flags=ctx.args, detach=detach)
    with client:
        status = client.call("status")
    verb = "started" if started else "already running"
    out.result({"started": started, **status}, f"Daemon {verb}  PID {status['pid']}  {status['http']}")


@app.command()
def stop(ctx: typer.Context) -> None:
    """Stop the daemon; nothing happens when it does not run."""
    stopped = control.stop()
    current(ctx).result({"stopped": stopped}, "Daemon stopped." if stopped else "Daemon is not running.")


@app.command(context_settings=KEYS_AS_FLAGS)
def restart(ctx: typer.Context, detach: Detach = False) -> None:
    """Stop the daemon if it runs and start it again, with new settings."""
    control.stop()
    start(ctx, detach)


@app.command(context_settings=KEYS_AS_FLAGS)
def run(ctx: typer.Context) -> None:
    """Run the daemon in the foreground, logging to the terminal. Takes every configuration key as a flag."""
    from_environment().create()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "hali.daemon.main", *ctx.args])


@app.command()
def status(ctx: typer.Context) -> None:
    """What the daemon shares and what the LAN offers. Exit code 4 when it does not run."""
    out = current(ctx)
    with control.connect() as client:
        found = client.call("status")
    if out.as_json:
        out.json(found)
    else:
        _print(out, found)


def _print(out: Output, found: dict[str, Any]) -> None:
    out.line(f"Daemon running  PID {found['pid']}  uptime {found['uptime']}  port {found['torrent_port']}  {found['http']}")
    out.line()
    _print_models(out, found["seeding"])
    out.line()
    rows = [(m["model_id"], str(m["peers"]), f"{m['infohash'][:12]}…") for m in found["lan"]]
    out.table(("LAN AVAILABLE".ljust(42), "PEERS", "INFOHASH"), rows)
    for job in found["jobs"]:
        out.line(f"\n{job['kind']} {job['what']}: {job['state']}")
    for service in found["services"]:
        if service["state"] != "ready":
            out.line(f"\nservice {service['name']} is {service['state']}: {service['error'] or 'no error reported'}")


def _print_models(out: Output, models: list[dict[str, Any]]) -> None:
    out.line(f"{'SEEDING'.ljust(42)}  {'STATUS'.ljust(8)}  PEERS")
    for model in models:
        peers = {0: "0 peers", 1: "1 peer"}.get(model["peers"], f"{model['peers']} peers") if model["status"] == "seeding" else "—"
        state = model["status"] if model["progress"] is None else f"{model['status']} {100 * model['progress']:.0f} %"
        out.line(f"{model['model_id'].ljust(42)}  {state.ljust(8)}  {peers}")
        if model["status"] == "seeding":
            out.line(f"  magnet: {model['magnet']}")


