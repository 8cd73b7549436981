"""`hali prune`, `pin`, `unpin`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import typer

from hali.cli.apps import new_app
from hali.cli.choosing import ASK_NOT, agreed, with_choice
from hali.cli.facts import moment
from hali.cli.output import Output, current
from hali.cli.store import ask
from hali.model.errors import Cancelled, NoSpace, UsageError
from hali.model.units import DAY_S, GB, format_bytes

app = new_app()
LARGEST_GB = 1e6  # as storage.quota_gb has it
_UNITS = {"m": 60, "h": 3600, "d": DAY_S, "w": 7 * DAY_S}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([mhdw])\Z", re.ASCII)
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Which model; see `hali info`.")]


@app.command()
def prune(
    ctx: typer.Context,
    quota: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0, max=LARGEST_GB, help="Room for all models, 0 for none; else storage.quota_gb."
        ),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Also models not used for so long: 30d, 12h, 2w.")
    ] = None,
    unfinished_after: Annotated[
        str, typer.Option(metavar="TIME", help="Downloads that nobody went on with for so long.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make room: the least recently used models until the rest fits the quota, forgotten downloads, torrents without a model.

    Used is: run, sent to others, or fetched. A pinned model, one in memory, and one that is being sent, fetched or verified stays.
    Exit code 6 when the quota cannot be met for that reason. With --json: `models` (`model_id`, `sha256`, `size`, `last_used`,
    `linked_elsewhere`: its bytes have another name, an import or export, and stay while that is there), `unfinished`, `torrents`,
    `used` (bytes of all models before), `removed` (of them), `freed` (bytes that the disk gets back), `short` (bytes above the quota
    that stay), `quota`, `dry_run`; above the quota they are the `details` of the error.
    """
    out = current(ctx)
    wish: dict[str, Any] = {
        "quota": None if quota is None else round(quota * GB),
        "older_than": None if older_than is None else seconds(older_than),
        "unfinished_after": seconds(unfinished_after),
    }
    done = ask("prune", dry_run=True, **wish) | {"dry_run": dry_run}
    if not dry_run and _is_something(done):
        _ask_first(out, done, yes)
        done = ask("prune", only=[model["sha256"] for model in done["models"]], **wish)
    if not (out.as_json and done["short"]):
        _tell(out, done, "Would remove" if dry_run else "Removed")
    if done["short"]:
        raise NoSpace(
            f"the models are still {format_bytes(done['short'])} above the quota: the rest is pinned or in use",
            hint="`hali unpin` or `hali stop` a model, or raise storage.quota_gb",
            details=done,
        )


def seconds(text: str) -> float:
    """`30d` → 2592000.0; UsageError when it is no such time."""
    found = _SPAN.match(text.strip().lower())
    if found is None or math.isinf(float(found[1])):
        raise UsageError(f"{text!r} is no time", hint="a number and m, h, d or w: 30d")
    return float(found[1]) * _UNITS[found[2]]


def _is_something(planned: dict[str, Any]) -> bool:
    return bool(planned["models"] or planned["unfinished"] or planned["torrents"])


def _ask_first(out: Output, planned: dict[str, Any], yes: bool) -> None:
    question = f"Delete these ({format_bytes(planned['freed'])} free again)?"
    hint = f"{ASK_NOT}, --dry-run only says what would go"
    if not agreed(out, question, yes, about=_lines(planned), hint=hint):
        raise Cancelled("nothing was deleted")


def _tell(out: Output, done: dict[str, Any], verb: str) -> None:
    if out.as_json:
        out.json(done)
    elif not _is_something(done):
        out.result(done, f"Nothing to remove: {format_bytes(done['used'])} of models.")
    elif not out.quiet:
        for line in _lines(done):
            out.line(line)
        of = f"{format_bytes(done['removed'])} of {format_bytes(done['used'])} of models"
        out.line(f"{verb} {of}: {format_bytes(done['freed'])} free again.")


def _lines(planned: dict[str, Any]) -> list[str]:
    lines = []
    for model in planned["models"]:
        shared = ", its bytes have another name and stay" if model["linked_elsewhere"] else ""
        lines.append(
            f"{model['model_id']}  {format_bytes(model['size'])}, last used {moment(model['last_used'])}{shared}"
        )
    for one in planned["unfinished"]:
        names = ", ".join(one["files"]) or one["key"]
        lines.append(f"unfinished {names}  {format_bytes(one['size'])}, untouched since {moment(one['touched'])}")
    return [*lines, *(f"torrent without a model  {name}" for name in planned["torrents"])]


@app.command()
def pin(ctx: typer.Context, model: Model) -> None:
    """Keep a model: `hali prune` never removes it.

    With --json: `model_id`, `sha256`, `pinned`.
    """
    _pin(current(ctx), model, True)


@app.command()
def unpin(ctx: typer.Context, model: Model) -> None:
    """Let `hali prune` remove a model again. JSON as for `hali pin`."""
    _pin(current(ctx), model, False)


def _pin(out: Output, model: str, pinned: bool) -> None:
    result = with_choice(out, model, lambda name: ask("pin", model=name, pinned=pinned))
    out.result(result, f"{result['model_id']} is {'pinned' if pinned else 'no longer pinned'}.")
