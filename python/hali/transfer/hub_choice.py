"""Which model of a Hugging Face repository is meant. Pure; the network part is `hub.py`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from hali.model.errors import AmbiguousName, NotFound, UsageError
from hali.model.units import format_bytes
from hali.transfer.hub_models import GgufModel, RepoListing, alone

DEFAULT_QUANT = "Q4_K_M"  # sharing.md: the usual balance of size and quality, and what nearly every repository has

_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}\Z", re.ASCII)


class HubName(msgspec.Struct, frozen=True):
    """`owner/repo[@revision][:quant]` or `owner/repo[@revision]/file`, taken apart; a slash in a revision is written `%2F`.

    For `file` also a folder may stand, of which a model is wanted.
    """

    repo: str
    revision: str | None = None
    quant: str | None = None
    file: str | None = None


def is_repo_name(text: str) -> bool:
    """True for `owner/name` of the characters the hub allows."""
    return _REPO.match(text) is not None


def parse_hub_name(text: str) -> HubName | None:
    """What `text` names on the hub, or None if it has another form. Hub URLs (`/blob/`, `/resolve/`, `/tree/`) are understood."""
    if text.startswith(("http://", "https://")):
        return _from_url(text)
    if text.lower().startswith(tuple(f"{host}/" for host in _HOSTS)):  # as the hub shows it for Ollama
        return _from_url(f"https://{text}")
    parts = text.split("/", 2)
    if len(parts) < 2:
        return None
    owner, name, file = parts[0], parts[1], parts[2] if len(parts) == 3 else None
    name, colon, quant = name.partition(":")
    name, at, revision = name.partition("@")
    if not is_repo_name(f"{owner}/{name}") or (colon and (not quant or file)) or (at and not revision) or file == "":
        return None
    return HubName(f"{owner}/{name}", unquote(revision) or None, quant or None, file)


def _from_url(text: str) -> HubName | None:
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
    except ValueError:  # brackets that hold no address
        return None
    pieces = [
        unquote(piece) for piece in parts.path.strip("/").split("/")
    ]  # a revision may hold a slash: refs%2Fpr%2F1
    if host not in _HOSTS or len(pieces) < 2:
        return None
    name, colon, quant = pieces[1].partition(":")
    repo = f"{pieces[0]}/{name}"
    if not is_repo_name(repo) or (colon and (not quant or len(pieces) > 2)):
        return None
    if len(pieces) >= 5 and pieces[2] in ("blob", "resolve", "tree"):
        return HubName(repo, pieces[3], None, "/".join(pieces[4:]))
    if len(pieces) == 4 and pieces[2] == "tree":
        return HubName(repo, pieces[3])
    return HubName(repo, quant=quant or None) if len(pieces) == 2 else None


def choose_model(listing: RepoListing, *, quant: str | None = None, file: str | None = None) -> GgufModel:
    """The one model that is meant: by a file of it, its folder, quant or default quant. NotFound (also of a part), AmbiguousName."""
    if file is not None and quant is not None:
        raise UsageError(f"{listing.repo}: name a file or a quant, not both")
    model = _by_name(listing, file) if file is not None else _by_quant(listing, quant)
    if model.missing is not None:
        raise NotFound(
            f"{listing.repo}: {model.missing} is missing; the model has {len(model.files)} of {model.parts} parts",
            hint="choose another quant; only the owner of the repository can add the part",
        )
    return model


def default_of(models: Sequence[GgufModel]) -> GgufModel | None:
    """The model to take when nobody says which: the only one, else the only Q4_K_M; None when it must be asked."""
    usual = models if len(models) == 1 else _simplest([m for m in models if m.quant == DEFAULT_QUANT])
    return usual[0] if len(usual) == 1 else None


def _by_name(listing: RepoListing, name: str) -> GgufModel:
    exact = [f for f in listing.files if f.name == name] or [f for f in listing.files if f.base == name]
    if not exact:
        if inside := [m for m in listing.models if m.files[0].name.startswith(f"{name.rstrip('/')}/")]:
            return _default(listing.repo, inside)
        raise NotFound(f"{listing.repo}: no file {name!r} at {listing.commit[:12]}", hint=_offer(listing.models))
    models = listing.models
    found = [m for f in exact for m in [m for m in models if f in m.files] or [alone(listing.repo, f)]]
    if len(found) > 1:
        raise ambiguous(listing.repo, found, f"{name!r} is in several folders")
    return found[0]


def _by_quant(listing: RepoListing, quant: str | None) -> GgufModel:
    models = listing.models
    if not models:
        raise NotFound(
            f"{listing.repo}: no GGUF model in this repository",
            hint="look for a conversion of it: hali search " + listing.repo.partition("/")[2],
        )
    if quant is None:
        return _default(listing.repo, models)
    found = [m for m in models if m.answers_to(quant)]
    if not found:
        raise NotFound(f"{listing.repo}: no {quant.upper()} file", hint=_offer(models))
    if len(_simplest(found)) > 1:
        raise ambiguous(listing.repo, found, f"several files are {quant.upper()}")
    return _simplest(found)[0]


def _default(repo: str, models: Sequence[GgufModel]) -> GgufModel:
    default = default_of(models)
    if default is None:
        raise ambiguous(repo, models, f"{len(models)} models to choose from")
    return default


def _simplest(same: Sequence[GgufModel]) -> Sequence[GgufModel]:
    """Some repositories have a quant both whole and split: then the whole one."""
    return [m for m in same if m.parts == 1] or same


def ambiguous(repo: str, models: Sequence[GgufModel], why: str) -> AmbiguousName:
    """The error that lists `models`, smallest first."""
    ordered = sorted(models, key=lambda m: (m.size, m.name))
    error = AmbiguousName(
        f"{repo}: {why}",
        choices=[f"{repo}/{m.name}" for m in ordered],
        hint="choose one: " + ", ".join(f"{m.quant or m.files[0].base} ({format_bytes(m.size)})" for m in ordered[:20]),
    )
    error.details["sizes"] = [m.size for m in ordered]
    error.details["models"] = [describe(m) for m in ordered]
    return error


def describe(model: GgufModel) -> dict[str, Any]:
    """A model of a repository as IPC and `--json` show it; sizes in bytes."""
    return {
        "id": str(model.id),
        "quant": model.quant,
        "size": model.size,
        "files": [f.name for f in model.files],
        "mmproj": [f.name for f in model.mmproj],
        "missing": model.missing,
    }


def _offer(models: Sequence[GgufModel]) -> str | None:
    names = sorted({m.quant or m.files[0].base for m in models})
    return "there is: " + ", ".join(names[:20]) if names else None
