"""What a pull could take when it was not told exactly: the models of a repository, or what a search finds."""

from __future__ import annotations

from typing import Any, NamedTuple

from hali.cli.choosing import asks, pick
from hali.cli.output import Output, table
from hali.cli.search import format_count
from hali.daemon.client import DaemonClient
from hali.model import names
from hali.model.errors import AmbiguousName, NotFound, TransferFailed
from hali.model.ids import is_hex
from hali.model.units import format_bytes
from hali.share.targets import NameTarget, RepoTarget, parse_target

OFFERED = 10  # findings to choose from; who wants more has `hali search`
MIN_HASH = 8  # hex digits that look like (the beginning of) a hash, which no search finds
LONGEST = 200  # characters worth searching for
MARKS = {
    "gpu": "fits the GPU",
    "ram": "fits",
    "shared": "fits GPU and RAM together",
    "no": "too large for this machine",
}


class Wanted(NamedTuple):
    """What to pull instead."""

    name: str
    quant: str | None


def of_repository(out: Output, client: DaemonClient, what: str, quant: str | None) -> str:
    """`what`, or the file that somebody chose when it is a repository without a choice; AmbiguousName when nobody can be asked."""
    target = parse_target(what)
    if not isinstance(target, RepoTarget) or target.quant or target.file or quant:
        return what
    found = client.call("choices", what=what, always=asks(out))
    models = found["models"]
    if len(models) < 2:
        return what
    if asks(out):
        chosen = models[pick(out, _title(found), lines(models))]
        revision = f"@{target.revision}" if target.revision else ""
        return f"{target.repo}{revision}/{chosen['files'][0]}"
    if found["default"] is None:
        raise _ambiguous(found)
    if not out.quiet:
        quants = {model["files"][0]: model["quant"] for model in models}
        out.warn(f"{target.repo}: taking {quants[found['default']]} of {len(models)} models; --quant chooses another")
    return what


def lines(models: list[dict[str, Any]]) -> list[str]:
    """The models as a list to choose from: quant or file, size, how many files, and whether it fits."""
    rows = [(m["quant"] or m["files"][0], format_bytes(m["size"]), _files(m), _mark(m)) for m in models]
    if len({row[0] for row in rows}) < len(rows):  # several models in one repository: then their files tell them apart
        rows = [(m["files"][0], *row[1:]) for m, row in zip(models, rows, strict=True)]
    kept = [i for i in range(4) if any(row[i] for row in rows)]
    return table([""] * len(kept), [[row[i] for i in kept] for row in rows], room=0)[1:]


def _files(model: dict[str, Any]) -> str:
    if model["missing"]:
        return "incomplete"
    return f"{len(model['files'])} files" if len(model["files"]) > 1 else ""


def _mark(model: dict[str, Any]) -> str:
    return "here" if model["here"] else MARKS.get(model["fits"] or "", "")


def _title(found: dict[str, Any]) -> str:
    free = [(what, found["memory"][key]) for what, key in (("RAM", "ram"), ("GPU memory", "gpu"))]
    told = ", ".join(f"{format_bytes(n)} of {what} free" for what, n in free if n is not None)
    return f"{found['repo']} has {len(found['models'])} models{f' ({told})' if told else ''}"


def _ambiguous(found: dict[str, Any]) -> AmbiguousName:
    models = found["models"]
    error = AmbiguousName(
        f"{found['repo']} has {len(models)} models and no single Q4_K_M",
        choices=[f"{found['repo']}/{m['files'][0]}" for m in models],
        hint="name one of them, or give --quant",
    )
    error.details["sizes"] = [m["size"] for m in models]
    error.details["models"] = models
    return error


def elsewhere(out: Output, client: DaemonClient, what: str, error: NotFound) -> Wanted:
    """What a search for the name `what`, which was not found here, offers and somebody chose; else `error`, or AmbiguousName."""
    target = parse_target(what)
    if not isinstance(target, NameTarget) or _looks_like_hash(target.name) or len(target.name) > LONGEST:
        raise error
    words, quant = words_for(target.name)
    try:
        found = client.call("search", text=words, limit=OFFERED)
    except TransferFailed as exc:
        raise NotFound(error.message, hint="; ".join(filter(None, (error.hint, exc.message)))) from exc
    for warning in found["warnings"]:
        out.warn(f"warning: {warning}")
    results = found["results"]
    if not results:
        raise error
    title = f"{error.message}; found elsewhere"
    if not asks(out):
        raise AmbiguousName(title, choices=[item["name"] for item in results], hint="pull one of these")
    rows = [(item["name"], f"{format_count(item['downloads'])} downloads", item["provider"]) for item in results]
    return Wanted(results[pick(out, title, table([""] * 3, rows, room=0)[1:])]["name"], quant)


def _looks_like_hash(name: str) -> bool:
    return len(name) >= MIN_HASH and is_hex(name, len(name))


def words_for(name: str) -> tuple[str, str | None]:
    """What to search for, and which quant was meant: `smollm2:135m:instruct:q4_1` → (`smollm2 135m instruct`, `q4_1`)."""
    model = names.parse(name)
    if model is None:
        return " ".join(name.replace(":", " ").split()), None
    size = [] if model.size == names.UNKNOWN else [model.size]
    variant = [] if model.variant == names.PLAIN else [model.variant]
    return " ".join([model.base, *size, *variant]), None if model.quant == names.UNKNOWN else model.quant
