"""`hali search`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.output import current

app = new_app()

LIMIT = 20  # fits a screen; the best known are first


@app.command()
def search(
    ctx: typer.Context,
    text: Annotated[list[str], typer.Argument(metavar="TEXT", help="Words to look for, for example: qwen coder 7b.")],
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="Show at most so many.")] = LIMIT,
    sort: Annotated[
        Literal["downloads", "likes", "updated"],
        typer.Option(metavar="BY", help="What comes first: downloads, likes or updated."),
    ] = "downloads",
) -> None:
    """Find GGUF models on Hugging Face (HF_ENDPOINT and `hf.endpoint` name a mirror) and in the registries. `hali pull NAME` gets one.

    Starts the daemon when it does not run. A provider that cannot be asked is a warning on standard error; only when none can, the
    command fails.

    With --json a list of objects: `name`, `provider`, `downloads`, `likes`, `updated`, `gated`; null is what the provider does not
    say.
    """
    out = current(ctx)
    with control.needed(out) as client:
        found = client.call("search", text=" ".join(text), limit=limit, sort=sort)
    for warning in found["warnings"]:
        out.warn(f"warning: {warning}")
    if out.as_json:
        out.json(found["results"])
    elif not found["results"]:
        out.line("Nothing found. Fewer words find more.")
    else:
        out.table(("NAME", "DOWNLOADS", "LIKES", "UPDATED", "FROM"), [row(item) for item in found["results"]])


def row(item: dict[str, Any]) -> tuple[str, ...]:
    """The cells of a finding."""
    gated = " (gated)" if item["gated"] else ""
    return (
        item["name"] + gated,
        format_count(item["downloads"]),
        format_count(item["likes"]),
        (item["updated"] or "—")[:10],
        item["provider"],
    )


def format_count(n: int | None) -> str:
    """`2100000` → `2.1M`; what nobody knows is a dash."""
    if n is None:
        return "—"
    for unit, size in (("M", 1_000_000), ("K", 1_000)):
        if n >= size:
            return f"{n / size:.1f}{unit}"
    return str(n)
