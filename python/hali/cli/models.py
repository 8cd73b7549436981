"""`hali list`, `info`, `verify`, `rm`: the models of this node, with or without a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from hali.cli.apps import new_app
from hali.cli.choosing import confirm, with_choice
from hali.cli.output import current
from hali.cli.store import ask
from hali.model.errors import Cancelled, ExitCode, UsageError, VerificationFailed
from hali.model.units import format_bytes

app = new_app()
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model id (or a unique part), SHA-256 or infohash (or a prefix), or file name."
    ),
]


@app.command(name="list")
def list_models(ctx: typer.Context) -> None:
    """Models of this node.

    With --json a list of objects as `hali info` gives them.
    """
    out = current(ctx)
    models = ask("models")["models"]
    if out.as_json:
        out.json(models)
    elif not models:
        out.line("No models yet. `hali pull` gets one, `hali add` imports one.")
    else:
        rows = [
            (m["model_id"], format_bytes(m["size"]), m["state"], m["sha256"][:12], m["downloaded_at"][:10])
            for m in models
        ]
        out.table(("MODEL ID", "SIZE", "STATE", "SHA-256", "SINCE"), rows)


@app.command()
def info(ctx: typer.Context, model: Model) -> None:
    """Everything known about one model.

    With --json: `model_id`, `sha256`, `blake3`, `infohash_v1`, `infohash_v2`, `files`, `size` (bytes), `downloaded_at`, `path`, `state`,
    `magnet`, `error`, and where known `hf_repo`, `hf_revision`, `sources` (bytes by kind of source), `also_torrents`.
    """
    out = current(ctx)
    found = with_choice(out, model, lambda name: ask("info", model=name))
    if out.as_json:
        out.json(found)
        return
    for name, text in _readable(found):
        out.line(f"{name:<14}{text}")


def _readable(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if value in (None, [], {}):
            continue
        if name == "size":
            yield name, f"{format_bytes(value)} ({value} bytes)"
        elif isinstance(value, dict):
            yield name, ", ".join(f"{kind} {format_bytes(n)}" for kind, n in value.items())
        else:
            yield name, ", ".join(value) if isinstance(value, list) else str(value)


@app.command()
def verify(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Which model; see `hali info`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All models of this node.")] = False,
) -> None:
    """Read a model again, compare it with its SHA-256, and name every wrong piece. Exit code 5 when it is damaged.

    With --all every model is read, also after one was found damaged. With --json: `model_id`, `sha256`, `size`, `pieces`,
    `verified`, with --all one such object (or error) a line; the error of a damaged model lists its wrong pieces in
    `error.details.pieces`.
    """
    out = current(ctx)
    if every == (model is not None):
        raise UsageError("give a model or --all", hint="`hali list` shows the models")
    if model is not None:
        result = with_choice(out, model, lambda name: ask("verify", model=name))
        out.result(result, _fine(result))
        return
    worst = ExitCode.OK
    for found in ask("models")["models"]:
        try:
            result = ask("verify", model=found["sha256"])
        except VerificationFailed as exc:
            worst = ExitCode(out.error(exc))
            continue
        if out.as_json:
            out.json(result, line=True)
        else:
            out.result(result, _fine(result))
    raise typer.Exit(worst)


def _fine(result: dict[str, Any]) -> str:
    return f"{result['model_id']}: ok, {result['pieces']} pieces, sha256 {result['sha256']}"


@app.command()
def rm(
    ctx: typer.Context,
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model from this node. Asks first when it can.

    With --json: `model_id`, `sha256`, `freed` (bytes).
    """
    out = current(ctx)
    found = with_choice(out, model, lambda name: ask("info", model=name))
    if out.interactive and not yes and not confirm(f"Delete {found['model_id']} ({format_bytes(found['size'])})?"):
        raise Cancelled(f"{found['model_id']} was not deleted")
    result = ask("rm", model=found["sha256"])
    out.result(result, f"Removed {found['model_id']}, {format_bytes(found['size'])} free again.")
