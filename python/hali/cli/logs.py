"""`hali logs`."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from hali.cli.output import current
from hali.config.paths import from_environment
from hali.model.errors import NotFound

app = typer.Typer(add_completion=False)
POLL_S = 0.25


@app.command()
def logs(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
) -> None:
    """The daemon's log: one JSON object a line."""
    path = from_environment().logs / "hali.log"
    if not path.exists():
        raise NotFound(f"no log at {path}", hint="it begins with the first start of the daemon")
    out = current(ctx)
    with path.open(encoding="utf-8", errors="replace") as log:
        for line in deque(log, maxlen=lines):
            print(line, end="", flush=True)
        while follow:
            if line := log.readline():
                print(line, end="", flush=True)
            else:
                time.sleep(POLL_S)
                if _rotated(path, log.fileno()):
                    out.note("log rotated; run the command again to follow the new file")
                    return


def _rotated(path: Path, fd: int) -> bool:
    import os

    return not path.exists() or path.stat().st_ino != os.fstat(fd).st_ino
