"""`hali daemon start|stop|restart|status|run`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.neighbours import describe_drops
from hali.cli.output import Output, current, table
from hali.cli.pause import worth_telling
from hali.config import last_exit
from hali.config.last_exit import LastExit
from hali.config.paths import Paths, from_environment
from hali.daemon.address import is_locked
from hali.model.errors import NotRunning
from hali.runtime.processes import boot_id

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
    if started:
        _warn_of_variables(out)
    if ctx.args and not started:
        _check(ctx.args)
        out.note(f"It runs already, so {' '.join(ctx.args)} had no effect; `hali daemon restart` takes the same flags.")
    with client:
        status = client.call("status")
    verb = "started" if started else "already running"
    ended = last_exit.read(from_environment())
    out.result(
        {"started": started, **status, "last_exit": to_builtins(ended)},
        f"Daemon {verb}  PID {status['pid']}  {status['http']}",
    )
    if started and ended is not None and not out.as_json:
        out.note(_how_it_ended(ended))
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


def _warn_of_variables(out: Output) -> None:
    from hali.config.load import unknown_variables  # all keys with it, which `daemon status` does without

    for told in unknown_variables(os.environ).values():
        out.warn(told)


def _check(flags: list[str]) -> None:
    """UsageError or ConfigError for what a daemon would not start with: one that runs shall not end for that, and it is a slip anyway."""
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
    # -P: the current folder is no place to import from
    command = [sys.executable, "-P", "-m", "hali.daemon.main", *ctx.args]
    if os.environ.get("NOTIFY_SOCKET"):  # systemd watches this very process, and starts it again itself
        os.execv(sys.executable, command)
    from hali.service.keeper import Keeper

    raise typer.Exit(Keeper(command, os.environ, patient=False).run())


@app.command()
def status(ctx: typer.Context) -> None:
    """What the daemon shares and what the LAN offers. Exit code 4 when it does not run.

    With --json: `pid`, `version`, `uptime`, `uptime_s`, `home`, `node_id`, `torrent_port`, `http` (URL of the API), `service` (whether a
    manager keeps it running), the fields of `hali pause`, `seeding` (`model_id`, `status`, `peers`, `magnet`, `sha256`, `infohash_v1`,
    `infohash_v2`, `progress`, `error`), `lan` (`model_id`, `peers`, `infohash`, `sha256_prefix`), `lan_traffic` (`packets_in`,
    `packets_out`, `send_failed`, `accepted` by kind, `ignored`, `dropped` by reason, `nodes`, `models`, `evicted_nodes`,
    `refused_models`, `degraded`; null without LAN), `jobs` (pulls and imports under way), `services`, `last_exit` (null, or why the
    daemon before this one ended out of order: `at`, `code`, `exit_code`, `message`, `hint`, `crashes`, the times of this and earlier
    such ends). When none runs the error's details have `last_exit`.
    """
    out, paths = current(ctx), from_environment()
    try:
        client = control.connect(paths)
    except NotRunning as exc:
        raise _with_reason(exc, paths) from None
    with client:
        found = client.call("status")
    ended = last_exit.read(paths)
    if out.as_json:
        out.json(found | {"last_exit": to_builtins(ended)})
        return
    _print(out, found)
    if ended is not None:
        out.line(f"\n{_how_it_ended(ended)}")


def _with_reason(error: NotRunning, paths: Paths) -> NotRunning:
    """`error`, and why the daemon does not run if it ended out of order."""
    ended = None if is_locked(paths) else last_exit.latest(paths, boot_id())
    if ended is None:
        return error
    hint = ended.hint if ended.hint is not None else error.hint
    return NotRunning(f"{error.message} {_how_it_ended(ended)}", hint=hint, details={"last_exit": to_builtins(ended)})


def _how_it_ended(ended: LastExit) -> str:
    """`The last daemon ended at 2026-03-01 12:00:05 with exit code 78: …`."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ended.at))
    code = "" if ended.exit_code is None else f" with exit code {ended.exit_code}"
    often = f" (the last {len(ended.crashes)} ended so)" if len(ended.crashes) > 1 else ""
    return f"The last daemon ended at {when}{code}: {ended.message}{often}"


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
