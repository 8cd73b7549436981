"""`hali add`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hali.cli import control
from hali.cli.jobs import run_job
from hali.cli.output import current

app = typer.Typer(add_completion=False)


@app.command()
def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A model file, usually GGUF.")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the file even where a link could be made.")] = False,
) -> None:
    """Import a local model file (by reflink or hard link when it can) and share it."""
    out = current(ctx)
    client, started = control.ensure()
    if started:
        out.note("Started the daemon.")
    with client:
        # `absolute`, not `resolve`: the name the user gave is the name the model gets.
        run_job(out, client, "add", what=str(file.expanduser().absolute()), link=not copy)
