"""`hali pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.jobs import run_job
from hali.cli.output import current

app = new_app()


@app.command()
def pull(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="Model id or part of it (store, then LAN), owner/repo[:quant], owner/repo/file.gguf, magnet link, .torrent, "
            "infohash or SHA-256.",
        ),
    ],
    quant: Annotated[
        str | None, typer.Option(metavar="QUANT", help="Which quantization of a repository, for example Q4_K_M.")
    ] = None,
) -> None:
    """Get a model and share it: verified, resumable, from the LAN, BitTorrent or Hugging Face.

    Starts the daemon when it does not run. Ctrl-C stops the pull and keeps what arrived; the same command goes on from there. When
    the connection to the daemon is lost, the daemon goes on by itself.

    With --json one object a line: `{"event": "progress", "state", "name", "done", "total", "rate", "peers", "sources"}` and at last
    `{"event": "done", "ok": true, "from_store", "seconds", …}` with the fields of `hali info`, or `{"ok": false, "error": {…}}`.
    """
    out = current(ctx)
    with control.needed(out) as client:
        with_choice(out, _absolute(what), lambda name: run_job(out, client, "pull", what=name, quant=quant))


def _absolute(what: str) -> str:
    """The path of a .torrent is relative to this process, which has another directory than the daemon."""
    if what.lower().endswith(".torrent") and ":" not in what:
        return str(Path(what).expanduser().absolute())
    return what
