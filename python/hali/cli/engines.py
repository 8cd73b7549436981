"""`hali ps` and `hali stop`: models in memory."""

from __future__ import annotations

from typing import Annotated

import typer

from hali.cli import control
from hali.cli.output import current
from hali.model.errors import NotRunning
from hali.model.units import format_bytes

app = typer.Typer(add_completion=False)


@app.command()
def ps(ctx: typer.Context) -> None:
    """Models loaded in memory."""
    out = current(ctx)
    with control.connect() as client:
        engines = client.call("ps")["engines"]
    if out.as_json:
        out.json(engines)
        return
    rows = [
        (
            e["model_id"],
            e["state"],
            str(e["pid"] or "—"),
            format_bytes(e["memory_bytes"]) if e["memory_bytes"] else "—",
            str(e["n_ctx"] or "—"),
            str(e["active"]),
        )
        for e in engines
    ]
    out.table(("MODEL ID", "STATE", "PID", "MEMORY", "CONTEXT", "ACTIVE"), rows)


@app.command()
def stop(ctx: typer.Context, model: Annotated[str, typer.Argument(help="Which model; see `hali ps`.")]) -> None:
    """Unload a model; the next request loads it again."""
    out = current(ctx)
    try:
        with control.connect() as client:
            result = client.call("unload", model=model)
    except NotRunning:
        result = {"stopped": False}
    out.result(result, f"Stopped {model}." if result["stopped"] else f"{model} is not loaded.")
