"""Asking when a name fits several models: a terminal is asked, anything else gets the error with the list."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hali.cli.output import Output
from hali.model.errors import AmbiguousName, Cancelled, UsageError
from hali.model.units import format_bytes

T = TypeVar("T")
ASK_NOT = "--yes goes ahead without asking"

# The store and the LAN show models as `id (sha256 0123456789ab…)`; the hash is the part that fits one file only.
_SHA256 = re.compile(r"\(sha256 ([0-9a-f]{8,64})")


def with_choice(out: Output, name: str, act: Callable[[str], T]) -> T:
    """`act(name)`; when the name is ambiguous and somebody is there to ask, `act` with the one chosen."""
    try:
        return act(name)
    except AmbiguousName as exc:
        if not (asks(out) and exc.choices):
            raise
        return act(choose(out, exc))


def asks(out: Output) -> bool:
    """True when somebody is there to ask."""
    return out.interactive and not out.quiet


def choose(out: Output, error: AmbiguousName) -> str:
    """Show the choices, numbered, and ask for one; its name as any command takes it."""
    sizes = error.details.get("sizes") or [None] * len(error.choices)
    rows = [
        (choice, *([format_bytes(size)] if size else [])) for choice, size in zip(error.choices, sizes, strict=True)
    ]
    return name_of(error.choices[pick(out, error.message, ["  ".join(row) for row in rows])])


def pick(out: Output, title: str, lines: Sequence[str]) -> int:
    """Show the lines, numbered from 1, and ask for one; its index. Cancelled when none is wanted."""
    out.note(f"{title}:")
    width = len(str(len(lines)))
    for number, line in enumerate(lines, start=1):
        out.note(f"  {number:>{width}}  {line}")
    while True:
        answer = ask(f"Which one? 1 to {len(lines)}, Enter for none: ")
        if not answer:
            raise Cancelled("nothing chosen")
        if answer.isdecimal() and 1 <= int(answer) <= len(lines):
            return int(answer) - 1


def name_of(choice: str) -> str:
    """What a command takes for a line of choices."""
    found = _SHA256.search(choice)
    return found[1] if found else choice


def confirm(question: str) -> bool:
    """Ask for yes or no; anything but yes is no."""
    return ask(f"{question} [y/N] ").lower() in ("y", "yes")


def agreed(out: Output, question: str, yes: bool, *, about: Iterable[str] = (), hint: str = ASK_NOT) -> bool:
    """`yes`, or the answer of who is there, who is shown `about` first; UsageError when nobody is."""
    if yes:
        return True
    if not out.interactive:
        raise UsageError("nobody is there to be asked", hint=hint)
    for line in about:
        out.note(line)
    return confirm(question)


def ask(question: str) -> str:
    """One line from the terminal; empty at its end. The question goes to standard error, so that results stay alone."""
    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        print(file=sys.stderr)
    return line.strip()
