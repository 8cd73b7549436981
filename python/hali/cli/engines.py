"""`hali ps` and `hali stop`: models in memory."""

from __future__ import annotations

from typing import Annotated

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.output import current
from hali.model.errors import NotRunning
from hali.model.units import format_bytes

app = new_app()


@app.command()
def ps(ctx: typer.Context) -> None:
    """Models loaded in memory. Exit code 4 when the daemon does not run.

    With --json a list of `model_id`, `state`, `pid`, `n_ctx` (tokens), `memory_bytes`, `active` (requests), `idle_s`, `prompt_tokens`,
    `completion_tokens`; null is unknown.
    """
    out = current(ctx)
    with control.connect() as client:
        engines = client.call("ps")["engines"]
    if out.as_json:
        out.json(engines)
    elif not engines:
        out.line("No model is loaded. `hali run MODEL` or a request to the API loads one.")
    else:
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
def stop(
    ctx: typer.Context, model: Annotated[str, typer.Argument(metavar="MODEL", help="Which model; see `hali ps`.")]
) -> None:
    """Unload a model; the next request loads it again. Nothing happens when it is not loaded.

    With --json: `stopped`, false when it was not loaded.
    """
    out = current(ctx)
    try:
        with control.connect() as client:
            result = with_choice(out, model, lambda name: client.call("unload", model=name))
    except NotRunning:
        result = {"stopped": False}
    out.result(result, f"Stopped {model}." if result["stopped"] else f"{model} is not loaded.")
