"""`hali daemon start|stop|restart|status|run`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.neighbours import describe_drops
from hali.cli.output import Output, current, table
from hali.cli.pause import worth_telling
from hali.config.paths import from_environment

app = new_app("Start, stop and look at the daemon, which seeds models, announces them on the LAN and runs them.")
# Every configuration key is a flag (`--torrent-port 51413`); they are handed to the daemon as they are, which knows them all.
KEYS_AS_FLAGS = {"allow_extra_args": True, "ignore_unknown_options": True}
Detach = Annotated[bool, typer.Option("--detach", help="Go on when the terminal closes.")]
MODEL_COLUMN = 42  # columns, where the terminal is wide enough


@app.command(context_settings=KEYS_AS_FLAGS)
def start(ctx: typer.Context, detach: Detach = False) -> None:
    """Start the daemon in the background; nothing happens when it runs already.

    Takes every configuration key as a flag (`--torrent-port 51413`, see `hali config show`), which lasts until the daemon ends. It
    belongs to the terminal it was started from and ends with it, unless --detach. With --json: `started` and the fields of
    `hali daemon status`.
    """
    out = current(ctx)
    client, started = control.ensure(flags=ctx.args, detach=detach)
    if ctx.args and not started:
        out.note(f"It runs already, so {' '.join(ctx.args)} had no effect; `hali daemon restart` takes the same flags.")
    with client:
        status = client.call("status")
    verb = "started" if started else "already running"
    out.result({"started": started, **status}, f"Daemon {verb}  PID {status['pid']}  {status['http']}")
    if started and not detach and out.interactive:
        out.note("It ends with this terminal, unless started with --detach.")


@app.command()
def stop(ctx: typer.Context) -> None:
    """Stop the daemon in order; nothing happens when it does not run.

    With --json: `stopped`, false when none ran.
    """
    stopped = control.stop()
    current(ctx).result({"stopped": stopped}, "Daemon stopped." if stopped else "Daemon is not running.")


@app.command(context_settings=KEYS_AS_FLAGS)
def restart(ctx: typer.Context, detach: Detach = False) -> None:
    """Stop the daemon if it runs and start it again, with the settings of now.

    Flags and JSON as for `hali daemon start`.
    """
    _check(ctx.args)
    control.stop()
    start(ctx, detach)


def _check(flags: list[str]) -> None:
    """A daemon that runs shall not end for a mistyped flag or a broken file: its successor would not start."""
    from hali.config import load as config

    path = from_environment().config
    if not flags:
        config.load(path)
        return
    from hali.daemon.main import parse_arguments  # loads the whole daemon, so only where there is something to check

    config.load(path, flags=parse_arguments(flags).flags)


@app.command(context_settings=KEYS_AS_FLAGS)
def run(ctx: typer.Context) -> None:
    """Run the daemon in the foreground, logging to the terminal, until Ctrl-C. Takes every configuration key as a flag.

    A daemon that dies is started again after 5, 30, then each time 60 s, as a service manager would: for containers, which have none.
    Exit code 78 (the settings are wrong) ends it, and so does a first start that fails at once.
    """
    from_environment().create()
    sys.stdout.flush()
    command = [sys.executable, "-m", "hali.daemon.main", *ctx.args]
    if os.environ.get("NOTIFY_SOCKET"):  # systemd watches this very process, and starts it again itself
        os.execv(sys.executable, command)
    from hali.service.keeper import Keeper

    raise typer.Exit(Keeper(command, os.environ, patient=False).run())


@app.command()
def status(ctx: typer.Context) -> None:
    """What the daemon shares and what the LAN offers. Exit code 4 when it does not run.

    With --json: `pid`, `uptime`, `uptime_s`, `home`, `node_id`, `torrent_port`, `http` (URL of the API), the fields of `hali pause`,
    `seeding` (`model_id`, `status`, `peers`, `magnet`, `sha256`, `infohash_v1`, `infohash_v2`, `progress`, `error`), `lan` (`model_id`,
    `peers`, `infohash`, `sha256_prefix`), `lan_traffic` (`packets_in`, `packets_out`, `send_failed`, `accepted` by kind, `ignored`,
    `dropped` by reason, `nodes`, `models`, `evicted_nodes`, `refused_models`, `degraded`; null without LAN), `jobs` (pulls and imports
    under way), `services`.
    """
    out = current(ctx)
    with control.connect() as client:
        found = client.call("status")
    if out.as_json:
        out.json(found)
    else:
        _print(out, found)


def _print(out: Output, found: dict[str, Any]) -> None:
    out.line(
        f"Daemon running  PID {found['pid']}  uptime {found['uptime']}  port {found['torrent_port']}  {found['http']}"
    )
    for line in worth_telling(found):
        out.line(line)
    out.line()
    _print_models(out, found["seeding"])
    out.line()
    rows = [(m["model_id"], str(m["peers"]), f"{m['infohash'][:12]}…") for m in found["lan"]]
    for line in _ruled(("LAN AVAILABLE", "PEERS", "INFOHASH"), rows):
        out.line(line)
    if drops := describe_drops(found["lan_traffic"]):
        out.line(f"\n{drops}")
    _print_jobs(out, found["jobs"])
    for service in found["services"]:
        if service["state"] != "ready":
            out.line(f"\nservice {service['name']} is {service['state']}: {service['error'] or 'no error reported'}")


def _print_models(out: Output, models: list[dict[str, Any]]) -> None:
    header, rule, *rows = _ruled(
        ("SEEDING", "STATUS", "PEERS"), [(m["model_id"], _state(m), _peers(m)) for m in models]
    )
    out.line(header)
    out.line(rule)
    for model, row in zip(models, rows, strict=True):
        out.line(row)
        if model["status"] == "seeding":
            out.line(f"  magnet: {model['magnet']}")
        elif model["error"]:
            out.line(f"  {model['error']}")


def _ruled(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A table with a rule of dashes under its header."""
    lines = table(columns, rows, first=MODEL_COLUMN, room=shutil.get_terminal_size().columns)
    least = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    least[0] = lines[0].index(columns[1]) - 2
    return [lines[0], "  ".join("-" * width for width in least), *lines[1:]]


def _state(model: dict[str, Any]) -> str:
    return str(model["status"]) if model["progress"] is None else f"{model['status']} {100 * model['progress']:.0f} %"


def _peers(model: dict[str, Any]) -> str:
    if model["status"] != "seeding":
        return "—"
    return "1 peer" if model["peers"] == 1 else f"{model['peers']} peers"


def _print_jobs(out: Output, jobs: list[dict[str, Any]]) -> None:
    from hali.cli.bar import describe

    for job in jobs:
        out.line(f"\n{job['kind']} {job['what']}: {describe(job)}")
