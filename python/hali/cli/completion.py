"""`hali completion bash|zsh|fish`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from hali.cli.apps import new_app
from hali.cli.completion_scripts import SCRIPTS
from hali.cli.output import current
from hali.config.files import write_atomically
from hali.model.errors import Refused, UsageError

app = new_app()


@app.command()
def completion(
    ctx: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
    install: Annotated[bool, typer.Option("--install", help="Put it where the shell looks for completions.")] = False,
) -> None:
    """Print the completion of commands, options and model ids for a shell, or install it for the user.

    To try it at once: `source <(hali completion bash)`. No file that you keep is changed. With --json: `shell`, `script`, with
    --install `path` and `next` (what else the shell needs) instead of `script`.
    """
    out = current(ctx)
    if shell not in SCRIPTS:
        raise UsageError(f"no completion for {shell!r}", hint=f"there is one for {', '.join(SCRIPTS)}")
    if not install:
        out.json({"shell": shell, "script": SCRIPTS[shell]}) if out.as_json else out.line(SCRIPTS[shell].rstrip("\n"))
        return
    path = installed_at(shell, os.environ, Path.home())
    try:
        write_atomically(path, SCRIPTS[shell].encode())
    except OSError as exc:
        raise Refused(
            f"cannot write {path}: {exc.strerror}", hint="print it without --install and put it elsewhere"
        ) from None
    needs = _also_needed(shell, path)
    out.result({"shell": shell, "path": str(path), "next": needs}, f"Wrote {path}. {needs}")


def installed_at(shell: str, env: Mapping[str, str], home: Path) -> Path:
    """Where the shell, or its package of completions, looks for the file of a user."""
    data = Path(env.get("XDG_DATA_HOME") or home / ".local" / "share")
    if shell == "bash":
        return data / "bash-completion" / "completions" / "hali"
    if shell == "zsh":
        return data / "zsh" / "site-functions" / "_hali"
    return Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "fish" / "completions" / "hali.fish"


def _also_needed(shell: str, path: Path) -> str:
    if shell == "bash":
        return f"New shells have it with the package bash-completion; without it add `source {quote(str(path))}` to ~/.bashrc."
    if shell == "zsh":
        return f"Add `fpath=({quote(str(path.parent))} $fpath)` to ~/.zshrc, above compinit, unless it is there."
    return "New shells have it."
