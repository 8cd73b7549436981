"""`hali pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from hali.cli import control
from hali.cli.jobs import run_job
from hali.cli.output import current

app = typer.Typer(add_completion=False)


@app.command()
def pull(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(help="Model id, owner/repo[:quant], owner/repo/file.gguf, magnet, .torrent, infohash or SHA-256.")],
    quant: Annotated[str | None, typer.Option(help="Quantization to take from a repository, for example Q4_K_M.")] = None,
) -> None:
    """Get a model and share it: verified, resumable, from the LAN, BitTorrent or Hugging Face."""
    out = current(ctx)
    client, started = control.ensure()
    if started:
        out.note("Started the daemon.")
    with client:
        run_job(out, client, "pull", what=what, quant=quant)
