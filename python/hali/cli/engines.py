"""`hali load`, `hali ps`, `hali stop`: models in memory."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.output import Output, current
from hali.model.errors import NotRunning, UsageError
from hali.model.units import format_bytes, format_duration, parse_duration

app = new_app()
COLUMNS = ("MODEL ID", "STATE", "PID", "MEMORY", "CONTEXT", "KV", "ACTIVE", "TOKENS/S", "UNTIL")
LOAD_S = 600.0  # a large model from a slow disk


@app.command()
def load(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Which model; see `hali list`.")],
    keep_alive: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long it stays without requests: 10m, 2h; `-1` = until `hali stop`."),
    ] = None,
) -> None:
    """Load a model into memory before the first request. Starts the daemon when it does not run.

    Without --keep-alive the key `engine.keep_alive` says how long it stays.

    With --json: `model_id`, `sha256`, `n_ctx` (tokens), `pid`.
    """
    out, seconds = current(ctx), _seconds(keep_alive)

    with control.needed(out) as client:
        found = with_choice(
            out, model, lambda name: client.call("load", timeout=LOAD_S, model=name, keep_alive=seconds)
        )
    out.result(found, f"Loaded {found['model_id']} with a context of {found['n_ctx']} tokens.")


def _seconds(text: str | None) -> float | None:
    """`10m` → 600; `-1` for ever; None is not said."""
    if text in (None, "-1", "0"):
        return None if text is None else float(text)
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise UsageError(f"--keep-alive: {exc}") from None


@app.command()
def ps(ctx: typer.Context) -> None:
    """Models loaded in memory. Exit code 4 when the daemon does not run.

    KV is how full the cache of computed tokens is, UNTIL when the model is unloaded if nobody asks it; GPU, where one is used, how
    many layers are there; DRAFT, where there is one, whether a draft model guesses beside it.

    With --json a list of `model_id`, `state`, `pid`, `sha256_prefix`, `n_ctx` (tokens of one conversation), `gpu_layers` (the output
    matrix counts as one), `draft` (whether a draft model guesses), `kv_used` and `kv_total` (tokens of all), `memory_bytes`,
    `reserved_bytes` (by estimate), `active` (requests), `tokens_per_s` (while it writes), `idle_s`, `expires_in_s`, `prompt_tokens`,
    `completion_tokens`; null is unknown, of `expires_in_s` also never or not while it is used.
    """
    out = current(ctx)
    with control.connect() as client:
        engines = client.call("ps")["engines"]
    if out.as_json:
        out.json(engines)
    elif not engines:
        out.line("No model is loaded. `hali run MODEL` or a request to the API loads one.")
    else:
        out.table(*_table(engines))


def _table(engines: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows, with one more where layers are on a GPU, and where there is a draft model."""
    columns: tuple[str, ...] = COLUMNS
    rows = [_row(engine) for engine in engines]
    for title, key in (("GPU", "gpu_layers"), ("DRAFT", "draft")):
        if any(engine[key] for engine in engines):
            shown = ["yes" if engine[key] is True else str(engine[key] or "—") for engine in engines]
            columns, rows = (*columns, title), [(*row, cell) for row, cell in zip(rows, shown, strict=True)]
    return columns, rows


def _row(engine: dict[str, Any]) -> tuple[str, ...]:
    used, total, rate, left = (engine[name] for name in ("kv_used", "kv_total", "tokens_per_s", "expires_in_s"))
    return (
        engine["model_id"],
        engine["state"],
        str(engine["pid"] or "—"),
        format_bytes(engine["memory_bytes"]) if engine["memory_bytes"] else "—",
        str(engine["n_ctx"] or "—"),
        f"{100 * used / total:.0f} %" if total else "—",
        str(engine["active"]),
        "—" if rate is None else f"{rate:.1f}",
        format_duration(left) if left is not None else "in use" if engine["active"] else "—",
    )


@app.command()
def stop(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Which model; see `hali ps`.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Unload a model; the next request loads it again. Nothing happens when it is not loaded.

    With --json: `stopped`, false when it was not loaded; with --all a list of the ids that were.
    """
    out = current(ctx)
    if (model is None) is not all_:
        raise UsageError("name a model, or use --all", hint="`hali ps` lists those in memory")
    if model is None:
        _stop_all(out)
        return
    try:
        with control.connect() as client:
            result = with_choice(out, model, lambda name: client.call("unload", model=name))
    except NotRunning:
        result = {"stopped": False}
    out.result(result, f"Stopped {model}." if result["stopped"] else f"{model} is not loaded.")


def _stop_all(out: Output) -> None:
    stopped = []
    try:
        with control.connect() as client:
            for engine in client.call("ps")["engines"]:
                if client.call("unload", model=engine["sha256_prefix"])["stopped"]:
                    stopped.append(engine["model_id"])
    except NotRunning:
        pass  # then none is loaded
    out.result({"stopped": stopped}, f"Stopped {', '.join(stopped)}." if stopped else "No model is loaded.")
