"""`hali add`."""

from __future__ import annotations

from typing import Annotated

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.jobs import run_job
from hali.cli.output import current
from hali.config.paths import absolute

app = new_app()


@app.command()
def add(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A model file, usually GGUF.")],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the file even where a link could be made.")] = False,
    with_mmproj: Annotated[
        str | None,
        typer.Option("--with-mmproj", metavar="FILE", help="The vision projector that belongs to the model."),
    ] = None,
) -> None:
    """Import a local model file (by reflink or hard link when it can) and share it.

    Of a GGUF split (`-00001-of-00003`) any part means all of them, which have to be in one folder: they are one model.

    Starts the daemon when it does not run. With --json the same lines as `hali pull`.
    """
    out = current(ctx)
    # `absolute`, not `resolve`: the name the user gave is the name the model gets.
    what, beside = str(absolute(file)), str(absolute(with_mmproj)) if with_mmproj is not None else None
    with control.needed(out) as client:
        run_job(out, client, "add", what=what, link=not copy, beside=beside)
