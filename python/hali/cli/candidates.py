"""What may stand at the cursor: asked by the completion scripts at each Tab, so it reads the store itself and starts nothing."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence

from hali.cli.help import EVERYWHERE, Param, summary
from hali.model.errors import HaliError

Candidate = tuple[str, str]  # the word, and what it is
FILES = ":files"  # the shell knows best how to complete the name of a file
SHELLS = {"bash": "GNU Bash", "zsh": "Z shell", "fish": "fish"}
MIN_HASH = 4  # hex digits; fewer are more likely the beginning of a name


def answer(args: Sequence[str]) -> str:
    """What the scripts ask, `SHELL WORD…`: a candidate a line, in the way of that shell."""
    shell, words = (args[0], args[1:]) if args else ("", [])
    lines = []
    for word, about in candidates(words):
        text = " ".join(about.split())
        if shell == "fish" and word != FILES:
            lines.append(f"{word}\t{text}")
        elif shell == "zsh" and word != FILES:
            lines.append(f"{word.replace(':', chr(92) + ':')}:{text}")
        else:
            lines.append(word)
    return "".join(f"{line}\n" for line in lines)


def candidates(words: Sequence[str]) -> list[Candidate]:
    """For the last of `words` (what is typed of it, maybe nothing); the others stand between `hali` and it."""
    *before, current = words or [""]
    given = [word for word in before if word not in _everywhere()]
    return [found for found in _at(given, current) if found[0] == FILES or found[0].startswith(current)]


def _everywhere() -> dict[str, str]:
    return {name: text for names, text in EVERYWHERE.items() for name in names.split(", ")}


def _at(given: list[str], current: str) -> Iterator[Candidate]:
    from hali.cli.main import COMMANDS

    if not given:
        yield from [(name, text) for name, (_, text) in COMMANDS.items()]
        yield from _options((), current)
        return
    if given[0] not in COMMANDS:
        return
    from hali.cli import apps  # imports Typer, which the names of the commands need not wait for

    found, rest = apps.find(importlib.import_module(COMMANDS[given[0]][0]).app, given[0]), given[1:]
    while found.children:
        if not rest:
            yield from [(name, summary(child.about)) for name, child in found.children.items()]
            return
        if rest[0] not in found.children:
            return
        found, rest = found.children[rest[0]], rest[1:]
    yield from _of_command(list(found.params()), rest, current)


def _of_command(params: list[Param], rest: list[str], current: str) -> Iterator[Candidate]:
    """An option, the value of the option before, or the next argument."""
    valued = {name: param for param in params if param.metavar for name in param.names}
    if rest and rest[-1] in valued:
        yield from _values(valued[rest[-1]].metavar, current, ())
        return
    if current.startswith("-"):
        yield from _options(params, current)
        return
    arguments = [param for param in params if not param.names]
    filled = [
        word
        for word, before in zip(rest, ["", *rest], strict=False)
        if not word.startswith("-") and before not in valued
    ]
    many = bool(arguments) and arguments[-1].metavar.endswith("…")
    if len(filled) < len(arguments) or many:
        yield from _values(arguments[min(len(filled), len(arguments) - 1)].metavar.rstrip("…"), current, filled)


def _options(params: Iterable[Param], current: str) -> Iterator[Candidate]:
    if current.startswith("-"):
        yield from [(name, param.help) for param in params for name in param.names]
        yield from _everywhere().items()


def _values(metavar: str, current: str, given: Sequence[str]) -> Iterable[Candidate]:
    if metavar == "MODEL":
        return [found for found in _models(current) if found[0] not in given]
    if metavar in ("FILE", "FOLDER", "DIR", "PATH", "WHAT"):
        return [(FILES, "")]
    if metavar == "KEY":
        from hali.config.schema import KEYS

        return [(name, key.doc) for name, key in KEYS.items()]
    return list(SHELLS.items()) if metavar == "SHELL" else []


def _models(current: str) -> list[Candidate]:
    """Ids, or the SHA-256 when one was begun; nothing when the store cannot be found: a Tab is no place for an error."""
    from hali.config import load
    from hali.config.paths import from_environment
    from hali.model.units import format_bytes
    from hali.store.models import ModelStore

    try:
        paths = from_environment()
        records = ModelStore(paths.models(load.load(paths.config).settings.models_dir)).records()
    except (HaliError, OSError):
        return []
    ids = [(r.meta.model_id, f"{format_bytes(r.meta.size)}  {r.meta.files[0]}") for r in records]
    hashes = [(r.meta.sha256, r.meta.model_id) for r in records] if len(current) >= MIN_HASH else []
    return ids + hashes
