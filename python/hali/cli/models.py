"""`hali list`, `info`, `verify`, `rm`: the models of this node, with or without a daemon."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hali.cli.apps import new_app
from hali.cli.choosing import confirm, with_choice
from hali.cli.facts import readable
from hali.cli.jobs import display_for
from hali.cli.output import Output, current
from hali.cli.store import ask
from hali.model.errors import Cancelled, NotFound, UsageError, VerificationFailed
from hali.model.units import format_bytes

app = new_app()
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Model id (or a unique part), SHA-256 or infohash (or 8 digits of it), or file name."
    ),
]


@app.command(name="list")
def list_models(ctx: typer.Context) -> None:
    """Models of this node.

    A model of which some layers are here (`hali pull --layers`) has the state `partial`; SIZE is then what it takes on disk.

    With --json a list of objects with the fields of `hali info` but `gguf`, `lan_nodes` and `peers`.
    """
    out = current(ctx)
    found = ask("models")
    models = [*found["models"], *found["partial"]]
    if out.as_json:
        out.json(models)
    elif not models:
        out.line("No models yet. `hali pull` gets one, `hali add` imports one.")
    else:
        rows = [
            (m["model_id"], format_bytes(_size(m)), _state(m), (m["sha256"] or "")[:12], m["downloaded_at"][:10])
            for m in models
        ]
        out.table(("MODEL ID", "SIZE", "STATE", "SHA-256", "SINCE"), rows)
    for path in found["unreadable"]:
        out.note(f"cannot be read and is left out: {path} — `hali add` the model file beside it again")


def _state(model: dict[str, Any]) -> str:
    if "layers" in model:
        return f"{model['state']}, layers {model['layers']}"
    return f"{model['state']}, pinned" if model["pinned"] else str(model["state"])


def _size(model: dict[str, Any]) -> int:
    """Bytes that it takes here."""
    return int(model.get("on_disk", model["size"]))


@app.command()
def info(ctx: typer.Context, model: Model) -> None:
    """Everything known about one model.

    With --json: `model_id`, `sha256`, `blake3`, `infohash_v1`, `infohash_v2`, `files`, `size` (bytes), `downloaded_at`, `path`, `state`,
    `magnet`, `magnet_v1` (for clients that cannot read hybrid torrents; null without a daemon), `error`,
    `pinned`, `last_used` (seconds since 1970), `uploaded` (bytes to others), `ratio` (uploaded / size), `gguf`
    (`architecture`, `parameters`, `layers`, `context`, `embedding`, `quantization`, `license`, `chat_template`; null when it is
    none), `lan_nodes` and `peers` (who else has it, of those known now; null without a daemon), and where known `hf_repo`,
    `hf_revision`, `sources` (bytes by kind of source), `also_torrents`, and of a model of several files `parts` (`name`, `size`,
    `sha256`, `blake3` of each; the model's own are those of this list). Of a partial model only: `model_id`, `infohash_v1`,
    `infohash_v2`, `files`, `size` (of the whole), `layers`, `on_disk` (bytes), `downloaded_at`, `path`, `state`, `magnet`, `error`, and
    `sha256` of the whole as promised, perhaps its first 32 digits, or null.
    """
    out = current(ctx)
    found = with_choice(out, model, lambda name: ask("info", model=name))
    if out.as_json:
        out.json(found)
        return
    for name, text in readable(found):
        out.line(f"{name:<14}{text}")


@app.command()
def verify(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Which model; see `hali info`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All models of this node.")] = False,
) -> None:
    """Read a model again, compare it with its SHA-256, and name every wrong piece. Exit code 5 when it is damaged.

    With --all every model is read, also after one was found damaged or gone, and the error at the end names all of those. With
    --json: `model_id`, `sha256`, `size`, `pieces`, `verified`, with --all one such object (or error) a line; the error of a damaged
    model lists its wrong files and their pieces in `error.details.files`, the last one all such models in `error.details.damaged`.
    """
    out = current(ctx)
    if every == (model is not None):
        raise UsageError("give a model or --all", hint="`hali list` shows the models")
    if model is not None:
        result = with_choice(out, model, lambda name: _verify(out, name))
        out.result(result, _fine(result))
        return
    _verify_all(out)


def _verify_all(out: Output) -> None:
    """VerificationFailed at the end when a model was damaged or gone."""
    models = ask("models")["models"]
    wrong: list[dict[str, Any]] = []
    for found in models:
        try:
            result = _verify(out, found["sha256"])
        except (VerificationFailed, NotFound) as exc:
            if out.as_json:
                out.error(exc)
            else:
                out.line(exc.message)  # a result like the others; the error comes at the end
            wrong.append(found)
            continue
        if out.as_json:
            out.json(result, line=True)
        else:
            out.result(result, _fine(result))
    if wrong:
        raise VerificationFailed(
            f"{len(wrong)} of {len(models)} models are damaged: {', '.join(m['model_id'] for m in wrong)}",
            hint="pull or add them again",
            details={"damaged": [m["sha256"] for m in wrong]},
        )


def _verify(out: Output, name: str) -> dict[str, Any]:
    """One model, with a progress bar for people; programs get the result alone."""
    if out.as_json:
        return ask("verify", model=name)
    display = display_for(out)
    try:
        return ask("verify", on_progress=display.show, model=name)
    finally:
        display.close()


def _fine(result: dict[str, Any]) -> str:
    return f"{result['model_id']}: ok, {result['pieces']} pieces, sha256 {result['sha256']}"


@app.command()
def rm(
    ctx: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Which models; see `hali info`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete models from this node. Asks first when it can; when one of the names is wrong nothing is deleted.

    With --json: `model_id`, `sha256`, `freed` (bytes; 0 while the file has another name, an import or export), of several one such
    object a line.
    """
    out = current(ctx)
    named = [with_choice(out, model, lambda name: ask("info", model=name)) for model in models]
    found = list({one["infohash_v2"]: one for one in named}.values())
    names = ", ".join(one["model_id"] for one in found)
    size = format_bytes(sum(_size(one) for one in found))
    if out.interactive and not yes and not confirm(f"Delete {names} ({size})?"):
        raise Cancelled(f"{names} {'was' if len(found) == 1 else 'were'} not deleted")
    for one in found:
        result = ask("rm", model=one["infohash_v2"])
        if out.as_json:
            out.json(result, line=len(found) > 1)
        else:
            freed = (
                f"{format_bytes(result['freed'])} free again"
                if result["freed"]
                else "its bytes have another name and stay"
            )
            out.result(result, f"Removed {one['model_id']}, {freed}.")
