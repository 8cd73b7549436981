"""Asking when a name fits several models: a terminal is asked, anything else gets the error with the list."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TypeVar

from hali.cli.output import Output
from hali.model.errors import AmbiguousName, Cancelled
from hali.model.units import format_bytes

T = TypeVar("T")

# The store and the LAN show models as `id (sha256 0123456789ab…)`; the hash is the part that fits one file only.
_SHA256 = re.compile(r"\(sha256 ([0-9a-f]{8,64})")


def with_choice(out: Output, name: str, act: Callable[[str], T]) -> T:
    """`act(name)`; when the name is ambiguous and somebody is there to ask, `act` with the one chosen."""
    try:
        return act(name)
    except AmbiguousName as exc:
        if not (out.interactive and exc.choices) or out.quiet:
            raise
        return act(choose(out, exc))


def choose(out: Output, error: AmbiguousName) -> str:
    """Show the choices, numbered, and ask for one; its name as any command takes it."""
    out.note(f"{error.message}:")
    sizes = error.details.get("sizes") or [None] * len(error.choices)
    width = len(str(len(error.choices)))
    for number, (choice, size) in enumerate(zip(error.choices, sizes, strict=True), start=1):
        out.note(f"  {number:>{width}}  {choice}{f'  {format_bytes(size)}' if size else ''}")
    while True:
        answer = ask(f"Which one? 1 to {len(error.choices)}, Enter for none: ")
        if not answer:
            raise Cancelled("nothing chosen")
        if answer.isdecimal() and 1 <= int(answer) <= len(error.choices):
            return name_of(error.choices[int(answer) - 1])


def name_of(choice: str) -> str:
    """What a command takes for a line of choices."""
    found = _SHA256.search(choice)
    return found[1] if found else choice


def confirm(question: str) -> bool:
    """Ask for yes or no; anything but yes is no."""
    return ask(f"{question} [y/N] ").lower() in ("y", "yes")


def ask(question: str) -> str:
    """One line from the terminal; empty at its end. The question goes to standard error, so that results stay alone."""
    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        print(file=sys.stderr)
    return line.strip()
