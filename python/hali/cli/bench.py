"""`hali bench MODEL`: tables as of llama-bench, measured through the daemon, so of what its users get."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.output import Output, current, table
from hali.daemon.client import DaemonClient
from hali.model.errors import UsageError

app = new_app()
COLUMNS = ("TEST", "STREAMS", "TOKENS/S", "LOWEST", "HIGHEST")
WIDTHS = (10, 7, 9, 9, 9)


@app.command()
def bench(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Which model; see `hali list`.")],
    prompt: Annotated[
        int, typer.Option(metavar="TOKENS", min=0, help="Length of the prompts that are read; 0 = do not measure it.")
    ] = 512,
    generate: Annotated[
        int,
        typer.Option(metavar="TOKENS", min=0, help="Length of the replies that are written; 0 = do not measure it."),
    ] = 128,
    streams: Annotated[str, typer.Option(metavar="LIST", help="How many requests at once: 1,4,8.")] = "1",
    repeat: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Runs of each, after one to warm up.")] = 3,
) -> None:
    """How fast a model reads prompts (pp) and writes replies (tg), in tokens a second of all requests together.

    The requests take the way of every other one: queue, engine, batches. So other requests meanwhile make it slower. Medians of the
    runs with the lowest and the highest. Starts the daemon when it does not run.

    With --json: `model_id`, `sha256`, `n_ctx`, and `results`, a list of `test`, `streams`, `tokens_per_s` (median), `low`, `high`,
    `runs`.
    """
    out = current(ctx)
    if not prompt and not generate:
        raise UsageError("there is nothing to measure", hint="--prompt or --generate must be more than 0")
    wanted = {"prompt": prompt, "generate": generate, "streams": _numbers(streams), "repeat": repeat}
    with control.needed(out) as client:
        found = with_choice(out, model, lambda name: _measure(out, client, name, wanted))
    if out.as_json:
        out.json(found)


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= number <= 256 for number in found):
        raise UsageError(f"--streams {text!r} is no list of numbers from 1 to 256", hint="for example 1,4,8")
    return found


def _measure(out: Output, client: DaemonClient, model: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Print each result as it comes; all of them."""
    shown = False
    for kind, value in client.stream("bench", model=model, **wanted):
        if kind == "result":
            return value
        lines = table(COLUMNS, [_row(value)], first=0, room=80)
        for line in lines[1 if shown else 0 :]:
            out.line(line)
        shown = True
    raise AssertionError("a stream ends with its result")


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    """Padded to fixed widths: the table grows while it is measured."""
    rates = (f"{result[name]:.1f}" for name in ("tokens_per_s", "low", "high"))
    cells = (result["test"], str(result["streams"]), *rates)
    return tuple(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
