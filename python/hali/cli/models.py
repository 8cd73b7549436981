"""`hali list`, `info`, `verify`, `rm`: the models of this node, with or without a daemon."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.output import Output, current
from hali.model.errors import NotRunning, UsageError
from hali.model.units import format_bytes

app = typer.Typer(add_completion=False)
Model = Annotated[str, typer.Argument(help="Model id (or a unique part), SHA-256 or infohash (or a prefix), or file name.")]


def _ask(method: str, **params: Any) -> dict[str, Any]:
    """The daemon's answer, or, when there is no daemon, the same read from disk."""
    try:
        client = control.connect()
    except NotRunning:
        from hali.cli import local  # reads torrents, so it loads libtorrent, which a command with a daemon need not wait for

        return local.METHODS[method](**params)
    with client:
        return client.call(method, timeout=None, **params)


@app.command(name="list")
def list_models(ctx: typer.Context) -> None:
    """Models of this node."""
    out = current(ctx)
    models = _ask("models")["models"]
    if out.as_json:
        out.json(models)
    elif not models:
        out.line("No models yet. `hali pull` gets one, `hali add` imports one.")
    else:
        rows = [(m["model_id"], format_bytes(m["size"]), m["state"], m["sha256"][:12], m["downloaded_at"][:10]) for m in models]
        out.table(("MODEL ID", "SIZE", "STATE", "SHA-256", "SINCE"), rows)


@app.command()
def info(ctx: typer.Context, model: Model) -> None:
    """Everything known about one model."""
    out = current(ctx)
    found = _ask("info", model=model)
    if out.as_json:
        out.json(found)
        return
    for name, value in found.items():
        if value not in (None, [], {}):
            shown = ", ".join(f"{k} {format_bytes(v)}" for k, v in value.items()) if isinstance(value, dict) else value
            out.line(f"{name:<15} {', '.join(shown) if isinstance(shown, list) else shown}")


@app.command()
def verify(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Which model; see `hali info`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All models of this node.")] = False,
) -> None:
    """Read a model again, compare it with its SHA-256, and name every wrong piece. Exit code 5 when it is damaged."""
    out = current(ctx)
    if every == (model is not None):
        raise UsageError("give a model or --all")
    names = [m["sha256"] for m in _ask("models")["models"]] if every else [str(model)]
    for name in names:
        _verify(out, name)


def _verify(out: Output, name: str) -> None:
    result = _ask("verify", model=name)
    out.result(result, f"{result['model_id']}: ok, {result['pieces']} pieces, sha256 {result['sha256']}")


@app.command()
def rm(
    ctx: typer.Context,
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model from this node."""
    out = current(ctx)
    found = _ask("info", model=model)
    if out.interactive and not yes:
        typer.confirm(f"Delete {found['model_id']} ({format_bytes(found['size'])})?", abort=True, err=True)
    result = _ask("rm", model=found["sha256"])
    out.result(result, f"Removed {found['model_id']}, {format_bytes(found['size'])} free again.")
