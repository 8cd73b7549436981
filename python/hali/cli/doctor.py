"""`hali doctor`."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import Annotated

import msgspec
import typer

from hali.cli.apps import new_app
from hali.cli.output import Output, current
from hali.config.paths import Paths, from_environment
from hali.model.errors import HaliError, NotFound, UsageError
from hali.model.printing import printable
from hali.service.doctor.context import Context, Daemon
from hali.service.doctor.finding import Report, Result
from hali.service.doctor.proc import holder_of_lock
from hali.service.doctor.running import stragglers
from hali.service.doctor.table import examine

app = new_app()
ANSWER_S = 5.0  # an idle daemon answers in milliseconds, one on a busy machine in a second


@app.command()
def doctor(
    ctx: typer.Context,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read all models and indices too; takes as long as hashing them.")
    ] = False,
    repair: Annotated[
        str | None,
        typer.Option(metavar="PART", help="Mend `config` or `database`; the damaged file is kept beside the new one."),
    ] = None,
) -> None:
    """Look at everything that this node needs, and name the command that mends what is wrong.

    Works with and without a daemon. Exit code 0 when all is well, 1 with a warning, 2 with a failure. With --quiet only what is wrong.
    With --json: `schema`, `generated_at`, `version`, `ok`, `summary` (`ok`, `warn`, `fail`, `skip`), `checks` (`id`, `title`, `status`,
    `detail`, `fix`: a shell command or null, `ms`).

    With --repair, `config` makes a comment of each line that cannot be read; `database` makes it anew of all rows that can be read, while
    no daemon runs. With --json: `repaired`, `kept` (the old file), `changes` (what became of it).
    """
    out, paths = current(ctx), from_environment()
    if repair is not None:
        _repair(out, paths, repair)
        return
    report = examine(Context(paths, os.environ, ask_daemon(paths), deep=deep))
    if out.as_json:
        out.json(msgspec.to_builtins(report))
    else:
        _print(out, report)
    sys.stdout.flush()
    if stragglers():  # the interpreter would wait for what hangs, or take it down in the middle of something
        os._exit(report.exit_code)
    raise typer.Exit(report.exit_code)


def ask_daemon(paths: Paths) -> Daemon:
    """The daemon of this home, as far as it can be told."""
    from hali.daemon.address import is_locked
    from hali.daemon.client import DaemonClient

    try:
        if not is_locked(paths):
            return Daemon()
    except OSError as exc:  # the home cannot be read or written, which checks of their own tell
        return Daemon(error=str(exc))
    holder = holder_of_lock(paths.lock) or 0
    try:
        with closing(DaemonClient(paths)) as client:
            status = client.call("status", timeout=ANSWER_S)
            rows = client.call("models", timeout=ANSWER_S)["models"]
            return Daemon(holder, status, tuple(row for row in rows if row["state"] in ("damaged", "missing")))
    except HaliError as exc:
        return Daemon(holder, error=exc.message)


def _print(out: Output, report: Report) -> None:
    width = max(len(each.title) for each in report.checks)
    for each in report.checks:
        if not out.quiet or each.status in ("warn", "fail"):
            out.line(f"{each.status:<4}  {each.title:<{width}}  {printable(each.detail)}")
            if each.fix is not None:
                out.line(f"{'':{width + 6}}  fix: {each.fix}")
    if not out.quiet:
        out.line(f"\n{_sentence(report)}")


def _sentence(report: Report) -> str:
    wrong: list[Result] = [each for each in report.checks if each.status in ("warn", "fail")]
    if not wrong:
        return f"All is well: {report.summary['ok']} checks passed, {report.summary['skip']} do not apply."
    counts = [f"{report.summary[status]} {status}" for status in ("fail", "warn", "ok", "skip")]
    return f"{', '.join(counts)}. Run the commands behind `fix:`, then `hali doctor` again."


# ---- --repair


def _repair(out: Output, paths: Paths, part: str) -> None:
    repairs = {"config": _repair_config, "database": _repair_database}
    if part not in repairs:
        raise UsageError(f"there is no {part!r} to repair", hint=f"there are {', '.join(repairs)}")
    repairs[part](out, paths)


def _repair_config(out: Output, paths: Paths) -> None:
    from hali.config.files import locked, write_secret
    from hali.config.mending import mended

    path = paths.config
    if not path.exists():
        raise NotFound(f"there is no {path}")
    kept = path.with_name(f"{path.name}.before-repair")
    with locked(path):
        old = path.read_bytes()
        text, faults = mended(old)
        if faults:
            write_secret(kept, old)
            write_secret(path.resolve(), text.encode())
    changes = [f"line {fault.line}: {fault.reason}" for fault in faults]
    _tell(out, "config", str(kept) if faults else None, changes)


def _repair_database(out: Output, paths: Paths) -> None:
    from hali.daemon.address import exclusive
    from hali.store.repair import repair

    if not paths.database.exists():
        raise NotFound(f"there is no {paths.database}")
    with exclusive(paths):
        done = repair(paths.database)
    changes = [f"{rows} rows of {table}" for table, rows in done.rows.items() if rows]
    _tell(out, "database", str(done.kept), changes)


def _tell(out: Output, part: str, kept: str | None, changes: list[str]) -> None:
    lines = [f"Repaired the {part}; the old one is {kept}" if kept else f"Nothing is wrong with the {part}."]
    text = "\n".join([*lines, *(f"  {printable(change)}" for change in changes)])
    out.result({"repaired": part, "kept": kept, "changes": changes}, text)
