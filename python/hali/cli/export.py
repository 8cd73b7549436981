"""`hali export ollama|lmstudio`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.output import Output, current
from hali.cli.store import ask, whole
from hali.config.paths import absolute
from hali.export.folder import Folder
from hali.export.model import Export, StoredModel, projector_of
from hali.model.errors import ExitCode, HaliError, UsageError
from hali.model.units import format_bytes

app = new_app("Let another program use models of the store, by link and not by copy. Doing it again changes nothing.")
Model = Annotated[str | None, typer.Argument(metavar="MODEL", help="Which model; see `hali info`.")]
Every = Annotated[bool, typer.Option("--all", help="All GGUF models of this node.")]
One = Callable[[StoredModel], Export]


@app.command()
def ollama(
    ctx: typer.Context,
    model: Model = None,
    every: Every = False,
    folder: Annotated[
        str | None,
        typer.Option("--dir", metavar="FOLDER", help="Ollama's models; OLLAMA_MODELS, else ~/.ollama/models."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME[:TAG]", help="What Ollama calls it, instead of a name from its id."),
    ] = None,
    mmproj: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Its vision or audio part; the one from the same repository goes along by itself."
        ),
    ] = None,
) -> None:
    """Make a model appear in `ollama list`, with the template and stop strings of its chat format.

    With --json: `target`, `model_id`, `sha256`, `name`, `path`, `how` (reflink, link, copy, kept), `changed`, `template` (the chat
    format, or plain), `notes`; with --all one such object (or error) a line.
    """
    from hali.export import ollama as target

    out = current(ctx)
    _one_or_all(model, every, name or mmproj)
    where = absolute(folder) if folder else target.models_folder(os.environ, Path.home())
    if not folder and not where.exists() and target.SERVICE_MODELS.is_dir():
        out.note(f"Ollama's service keeps its models in {target.SERVICE_MODELS}; this goes to {where}. --dir chooses.")
    models = _stored()
    names = Counter(str(target.derive_name(m)) for m in models)

    def one(chosen: StoredModel) -> Export:
        derived = target.derive_name(chosen)
        called = target.parse_name(name) if name else target.derive_name(chosen, distinct=names[str(derived)] > 1)
        part = _find(out, mmproj) if mmproj else projector_of(chosen, models)
        return target.export(chosen, Folder(where), called, part)

    _run(out, model, models, one)


@app.command()
def lmstudio(
    ctx: typer.Context,
    model: Model = None,
    every: Every = False,
    folder: Annotated[
        str | None,
        typer.Option(
            "--dir", metavar="FOLDER", help="LM Studio's models; LMSTUDIO_MODELS_DIR, else the one it is set to."
        ),
    ] = None,
) -> None:
    """Make a model appear in LM Studio, under its repository or the publisher `hali`.

    With --json as for `hali export ollama`; `template` is null, because LM Studio reads the file's own.
    """
    from hali.export import lmstudio as target

    out = current(ctx)
    _one_or_all(model, every, None)
    where = absolute(folder) if folder else target.models_folder(os.environ, Path.home())
    models = _stored()
    shared = target.shared_places(models)

    def one(chosen: StoredModel) -> Export:
        distinct = (*target.place_of(chosen), chosen.file.name) in shared
        return target.export(chosen, Folder(where), projector_of(chosen, models), distinct=distinct)

    _run(out, model, models, one)


def _one_or_all(model: str | None, every: bool, of_one: str | None) -> None:
    if every == (model is not None):
        raise UsageError("give a model or --all", hint="`hali list` shows the models")
    if every and of_one:
        raise UsageError("--as and --mmproj are of one model, not of --all")


def _stored() -> list[StoredModel]:
    return [_as_stored(found) for found in ask("models")["models"]]


def _as_stored(found: dict[str, Any]) -> StoredModel:
    return msgspec.convert(found, StoredModel)


def _find(out: Output, name: str) -> StoredModel:
    return _as_stored(with_choice(out, name, lambda one: whole(ask("info", model=one))))


def _run(out: Output, model: str | None, models: list[StoredModel], one: One) -> None:
    """Export what was asked for; with --all the others go on when one fails, and the last error's exit code is ours."""
    if model is not None:
        _tell(out, one(_find(out, model)), line=False)
        return
    worst = ExitCode.OK
    for chosen in models:
        if not chosen.is_gguf or "mmproj" in chosen.file.name.lower():  # a projector goes along with its model
            out.note(f"{chosen.model_id}: left out, no GGUF model of its own")
            continue
        try:
            _tell(out, one(chosen), line=True)
        except HaliError as exc:
            worst = ExitCode(out.error(exc))
    raise typer.Exit(worst)


def _tell(out: Output, done: Export, *, line: bool) -> None:
    for note in done.notes:
        out.note(f"{done.model_id}: {note}")
    if out.as_json:
        out.json(msgspec.to_builtins(done), line=line)
    elif not out.quiet:
        out.line(f"{done.model_id}  {_feat(done)}")


def _feat(done: Export) -> str:
    if not done.changed:
        return f"is there already as {done.name}"
    format_of = f", chat format {done.template}" if done.template else ""
    if done.how == "copy":
        size = format_bytes(Path(done.path).stat().st_size)
        return f"copied ({size}: the folder is on another file system or allows no links) as {done.name}{format_of}"
    how = {"link": "linked", "reflink": "linked (reflink)", "kept": "written"}[done.how]
    return f"{how} as {done.name}{format_of}"
