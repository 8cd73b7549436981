"""`hali config show|get|set|unset|edit|path`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.output import current
from hali.config import load as config
from hali.config.paths import from_environment
from hali.config.schema import KEYS
from hali.model.errors import Failed, NotRunning, UsageError

app = new_app("Show and change settings.")
# By `applied`; without a daemon there is nothing that would have to change.
_EFFECT = {True: "; applied.", False: "; restart to apply: `hali daemon restart`.", None: "."}
_ORIGIN = {"env": "an environment variable", "flag": "a flag"}
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key, for example max_upload_mbps or lan.enabled.")]


@app.command()
def show(ctx: typer.Context) -> None:
    """Every key with its value, unit and source; secrets are masked.

    The source is default, file, env or flag. With --json: `path` and `keys`, a list of `key`, `value`, `source`, `unit`, `default`, `env`
    (variable), `flag` (of the daemon), `live` (a running daemon takes it at once), `secret`, `choices` (the texts it may be, or null),
    `separator` (of a list as text, else null), `doc`.
    """
    out, paths = current(ctx), from_environment()
    rows = config.load(paths.config).rows()
    if out.as_json:
        out.json({"path": str(paths.config), "keys": rows})
        return
    out.line(f"config path: {paths.config}")
    out.table(("KEY", "VALUE", "UNIT", "SOURCE"), [(r["key"], _text(r), r["unit"], r["source"]) for r in rows])


def _text(row: dict[str, Any]) -> str:
    """The value as `config set` takes it."""
    value = row["value"]
    if isinstance(value, bool):
        return str(value).lower()
    return config.find_key(row["key"]).separator.join(value) if isinstance(value, list) else str(value)


@app.command()
def get(ctx: typer.Context, key: Key) -> None:
    """The value of one key.

    With --json all of its row, as in `hali config show`.
    """
    out = current(ctx)
    name = config.find_key(key).name
    row = next(r for r in config.load(from_environment().config).rows() if r["key"] == name)
    out.result(row, _text(row))


@app.command(name="set")
def set_key(
    ctx: typer.Context,
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="The new value; `-` asks for it, or reads a line from a pipe.")
    ],
) -> None:
    """Change one key in the file; comments stay. A running daemon applies some keys at once, the others at its next start.

    A secret given by `-` stays out of the shell's history and of the list of processes.

    With --json: `key`, `path`, `applied` (true: in force; false: a restart of the daemon applies it; null: none runs).
    """
    paths = from_environment()
    paths.create()
    config.store(paths.config, key, _typed(key) if value == "-" else value)
    _changed(ctx, key)


def _typed(name: str) -> str:
    """The value from standard input; not shown while a person types it."""
    key = config.find_key(name).name
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    import getpass

    return getpass.getpass(f"{key}: ").strip()


@app.command()
def unset(ctx: typer.Context, key: Key) -> None:
    """Take one key out of the file, which goes back to its default; also one that hali does not know. Applied as by `hali config set`.

    With --json as `hali config set`.
    """
    paths = from_environment()
    paths.create()
    _changed(ctx, key, was_there=config.store(paths.config, key, None))


def _changed(ctx: typer.Context, name: str, *, was_there: bool = True) -> None:
    out, path = current(ctx), from_environment().config
    done = _reload()
    applied = None if done is None else name not in done["restart"]
    told = f"Updated {name} in {path}{_EFFECT[applied]}" if was_there else f"{name} is not set in {path}"
    out.result({"key": name, "path": str(path), "applied": applied}, told)
    if done is not None and (source := done["sources"].get(name)) in ("env", "flag"):
        out.note(f"The running daemon has it from {_ORIGIN[source]}, which wins over the file.")
    key = KEYS.get(name)  # None: one of the file that nobody knows was taken out
    if key is not None and (winner := config.variable_of(key, os.environ)) is not None:
        out.note(f"The environment variable {winner} is set, and wins over the file.")


def _reload() -> dict[str, Any] | None:
    """Let the running daemon read the file; None when there is none."""
    try:
        with control.connect() as client:
            return client.call("reload")
    except NotRunning:
        return None


@app.command()
def edit(ctx: typer.Context) -> None:
    """Open the file in $VISUAL or $EDITOR and check it afterwards."""
    paths = from_environment()
    paths.create()
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        words = shlex.split(editor)
    except ValueError:  # a quote without its pair
        raise UsageError(f"{editor!r} is no command for an editor: a quote is left open", hint="set EDITOR") from None
    try:
        subprocess.run([*words, str(paths.config)], check=True)
    except OSError as exc:
        raise Failed(f"cannot start the editor {editor!r}: {exc.strerror}", hint="set EDITOR") from None
    except subprocess.CalledProcessError as exc:
        raise Failed(f"the editor {editor!r} ended with exit code {exc.returncode}", hint="set EDITOR") from None
    config.load(paths.config)
    done = _reload()
    waiting = f" `hali daemon restart` applies {', '.join(done['restart'])}." if done and done["restart"] else ""
    current(ctx).note(f"The file is valid.{waiting}")


@app.command()
def path(ctx: typer.Context) -> None:
    """Where the file is.

    With --json: `path`.
    """
    found = from_environment().config
    current(ctx).result({"path": str(found)}, str(found))
