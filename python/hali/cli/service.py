"""`hali service install|uninstall|start|stop|restart|status|logs`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hali.cli.apps import new_app
from hali.cli.output import Output, current
from hali.model.errors import ExitCode, Failed, Refused, UsageError

if TYPE_CHECKING:
    from hali.service.description import Scope
    from hali.service.managers import Machine, Verb
    from hali.service.plan import Step
    from hali.service.targets import Target

app = new_app(
    "Keep a program of hali running: now, after a crash and after a reboot, by systemd, launchd or Windows' Task Scheduler."
)
TARGETS = "`daemon` or `registry`."
What = Annotated[str, typer.Argument(metavar="TARGET", help=TARGETS)]
System = Annotated[
    bool, typer.Option("--system", help="A service of the machine, with its data in /var/lib; needs root.")
]
User = Annotated[bool, typer.Option("--user", help="A service of yours, with your data. This is the default.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be written and run, and do nothing.")]


@app.command(context_settings={"allow_extra_args": True})
def install(
    ctx: typer.Context,
    target: What = "daemon",
    system: System = False,
    user: User = False,
    account: Annotated[
        str,
        typer.Option(metavar="NAME", help="With --system: an existing account to run as; else systemd makes one up."),
    ] = "",
    dry_run: DryRun = False,
) -> None:
    """Make TARGET a service and start it. Again: with what is asked for now. Asks nothing.

    What follows `--` are arguments of the program: hali service install -- --torrent-port 51413. A daemon that runs in the terminal
    makes room.

    With --json: `dry_run`, `steps` (each with `type`, and `path` and `text`, or `argv`), and the fields of `hali service status`.
    """
    from hali.service import managers, survey

    given = [target, *ctx.args] if target.startswith("-") else ctx.args  # what follows `--` where no target is named
    where = _Where("daemon" if target.startswith("-") else target, system, user)
    arguments = _checked(where.target, given)
    if system:
        _seen_by_all(current(ctx), dry_run)
    what = survey.describe(where.machine, where.target, where.scope, arguments, account)
    steps = managers.install(where.machine, what)
    _do(ctx, where, steps, dry_run, f"Installed {where.target.name} as a service.", makes_room=True)


@app.command()
def uninstall(
    ctx: typer.Context, target: What = "daemon", system: System = False, user: User = False, dry_run: DryRun = False
) -> None:
    """Stop TARGET and remove it from the service manager. Models, settings and logs stay.

    With --json: as `hali service install`.
    """
    from hali.service import managers

    where = _Where(target, system, user)
    steps = managers.uninstall(where.machine, where.target, where.scope, where.home)
    _do(ctx, where, steps, dry_run, f"Removed the service {where.target.name}; its data is in {where.home}.")


@app.command()
def start(
    ctx: typer.Context, target: What = "daemon", system: System = False, user: User = False, dry_run: DryRun = False
) -> None:
    """Start an installed TARGET and wait until it answers.

    With --json: as `hali service install`.
    """
    _control(ctx, "start", _Where(target, system, user), dry_run)


@app.command()
def stop(
    ctx: typer.Context, target: What = "daemon", system: System = False, user: User = False, dry_run: DryRun = False
) -> None:
    """Stop TARGET in order. It is started again with the machine or the session, unless it is uninstalled.

    With --json: as `hali service install`.
    """
    _control(ctx, "stop", _Where(target, system, user), dry_run)


@app.command()
def restart(
    ctx: typer.Context, target: What = "daemon", system: System = False, user: User = False, dry_run: DryRun = False
) -> None:
    """Stop TARGET in order and start it again, with the settings of now.

    With --json: as `hali service install`.
    """
    _control(ctx, "restart", _Where(target, system, user), dry_run)


@app.command()
def status(ctx: typer.Context, target: What = "daemon", system: System = False, user: User = False) -> None:
    """How the service is. Exit code 4 when it does not run.

    With --json: `target`, `scope`, `manager` (`systemd`, `launchd`, `task-scheduler`), `state` (`absent`, `stopped`, `starting`,
    `running`, `stopping`, `waiting` for its next start, `failed`), `running`, `installed`, `enabled`, `pid`, `restarts`, `exit_code`
    of its last end, `text` (what it says), `file`, `home`, `log`, `linger` (whether it goes on without a session of its user). What
    the manager does not tell is null.
    """
    from hali.service import survey

    out, where = current(ctx), _Where(target, system, user)
    survey.must_answer(where.machine, where.scope)
    found = where.status()
    if out.as_json:
        out.json(found)
    else:
        _print(out, where, found)
    if not found["running"]:
        raise typer.Exit(ExitCode.NOT_RUNNING)


@app.command()
def logs(
    ctx: typer.Context,
    target: What = "daemon",
    system: System = False,
    user: User = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="How many of the last lines.")] = 50,
) -> None:
    """The log of TARGET, as `hali logs` prints that of the daemon."""
    from hali.cli.logs import show

    where = _Where(target, system, user)
    show(current(ctx), Path(where.log), lines, follow=follow)


class _Where:
    """The service that is meant: target, scope and machine."""

    def __init__(self, target: str, system: bool, user: bool) -> None:
        from hali.service import survey
        from hali.service.targets import find_target

        if system and user:
            raise UsageError("--system and --user exclude each other")
        self.target: Target = find_target(target)
        self.scope: Scope = "system" if system else "user"
        self.machine: Machine = survey.machine()
        self.home = survey.home_of(self.machine, self.target, self.scope)
        self.log = str(Path(self.home) / "logs" / self.target.log)

    @property
    def options(self) -> str:
        """As they are written after `hali service VERB`."""
        words = [
            *([self.target.name] if self.target.name != "daemon" else []),
            *(["--system"] * (self.scope == "system")),
        ]
        return "".join(f" {word}" for word in words)

    def status(self) -> dict[str, Any]:
        """Everything known, as `status --json` prints it."""
        import msgspec

        from hali.service import managers, survey

        state = managers.look(self.machine, self.target, self.scope)
        return {
            "target": self.target.name,
            "scope": self.scope,
            "manager": self.machine.manager,
            "running": state.running,
            "installed": state.installed,
            **msgspec.to_builtins(state),
            "file": managers.file_of(self.machine, self.target, self.scope, self.home),
            "home": self.home,
            "log": self.log,
            "linger": survey.linger(self.machine) if self.scope == "user" else None,
        }


def _control(ctx: typer.Context, verb: Verb, where: _Where, dry_run: bool) -> None:
    from hali.service import managers, survey

    if not dry_run:
        survey.must_answer(where.machine, where.scope)
        if not managers.look(where.machine, where.target, where.scope).installed:
            raise Failed(
                f"{where.target.name} is not installed as a service",
                hint=f"`hali service install{where.options}` does it",
            )
    steps = managers.control(where.machine, verb, where.target, where.scope)
    done = {"start": "Started", "stop": "Stopped", "restart": "Restarted"}[verb]
    _do(ctx, where, steps, dry_run, f"{done} the service {where.target.name}.", makes_room=verb != "stop")


def _do(
    ctx: typer.Context, where: _Where, steps: Sequence[Step], dry_run: bool, text: str, *, makes_room: bool = False
) -> None:
    import msgspec

    from hali.service import survey
    from hali.service.plan import carry_out

    out = current(ctx)
    result: dict[str, Any] = {"dry_run": dry_run, "steps": msgspec.to_builtins(steps)}
    if dry_run:
        out.json(result) if out.as_json else _print_plan(out, steps)
        return
    survey.must_answer(where.machine, where.scope)
    if makes_room:
        _make_room(out, where)
    try:
        carry_out(steps)
    except Failed as exc:
        raise Failed(exc.message, hint=exc.hint or f"`hali service logs{where.options}` may tell why") from exc
    found = where.status()
    out.result(result | found, text)
    if found["linger"] is False and found["installed"]:
        out.note(_linger_text(where))


def _make_room(out: Output, where: _Where) -> None:
    """A daemon that a person started holds the home; the service could not start beside it."""
    from hali.cli import control
    from hali.config.paths import Paths
    from hali.service import managers

    if where.target.name != "daemon" or managers.look(where.machine, where.target, where.scope).pid is not None:
        return
    if control.stop(Paths(Path(where.home))):
        out.note("Stopped the daemon that was running, to make room for the service.")


def _seen_by_all(out: Output, dry_run: bool) -> None:
    from hali.service import survey

    try:
        survey.must_be_readable(survey.programs())
    except Refused as exc:
        if not dry_run:
            raise
        out.warn(f"{exc.message} — {exc.hint}")


def _checked(target: Target, arguments: list[str]) -> tuple[str, ...]:
    """The program's own arguments, refused now rather than at each start."""
    if target.name == "daemon" and arguments:
        from hali.daemon.main import parse_arguments

        parse_arguments(arguments)
    return tuple(arguments)


def _print_plan(out: Output, steps: Sequence[Step]) -> None:
    """Files as they would be, everything else as comments: what is printed for systemd is a unit file."""
    from hali.service.plan import Write, describe

    for step in steps:
        out.line(f"# {describe(step)}".replace("\n", "\\n"))
        if isinstance(step, Write):
            out.line(step.text)


def _print(out: Output, where: _Where, found: dict[str, Any]) -> None:
    if not found["installed"]:
        out.line(f"{where.target.name} is not installed as a service; `hali service install{where.options}` does it.")
        return
    facts = [f"{where.target.name}  {found['state']}"]
    facts += [f"PID {found['pid']}"] if found["pid"] else []
    facts += [f"{found['restarts']} restarts"] if found["restarts"] else []
    facts += [f"last exit code {found['exit_code']}"] if found["exit_code"] and not found["running"] else []
    out.line("  ".join([*facts, f"{found['manager']}, {found['scope']}"]))
    if found["text"]:
        out.line(f"  {found['text']}")
    for name in ("file", "home", "log"):
        out.line(f"  {name:<5} {found[name]}")
    if found["enabled"] is False:
        out.line("  It does not start by itself.")
    if found["linger"] is False:
        out.line(f"  {_linger_text(where)}")


def _linger_text(where: _Where) -> str:
    from hali.service.systemd import linger_command

    return f"It ends with your last session; `{shlex.join(linger_command(where.machine.user))}` lets it go on."
