"""What a command prints: tables and lines for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hali.model.printing import printable, printable_lines

if TYPE_CHECKING:
    import typer

    from hali.model.errors import HaliError


class Output:
    """How this invocation prints. Results go to standard output, everything else to standard error."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, no_color: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.color = not (no_color or os.environ.get("NO_COLOR"))  # no-color.org: set and not empty
        self.animated = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not (as_json or quiet)
        self.interactive = sys.stderr.isatty() and sys.stdin.isatty() and not as_json

    def json(self, value: Any, *, line: bool = False) -> None:
        """A result for programs; with `line`, one event of a stream on a line of its own."""
        text = json.dumps(value, ensure_ascii=False, indent=None if line else 2)
        print(text, flush=True)

    def line(self, text: str = "") -> None:
        """A result for people, on as many lines as it has."""
        if not self.as_json:
            print(printable_lines(text), flush=True)

    def note(self, text: str) -> None:
        """What happens meanwhile; nothing a program should need."""
        if not (self.as_json or self.quiet):
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """What whoever reads the result should know, on standard error also beside JSON."""
        print(printable(f"hali: {' '.join(text.split())}"), file=sys.stderr, flush=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, first: int = 0) -> None:
        """Columns padded with spaces: readable, and cut and awk work on it. The first is `first` wide where there is room."""
        for line in table(columns, rows, first=first, room=shutil.get_terminal_size().columns):
            self.line(line)

    def result(self, value: Mapping[str, Any], text: str) -> None:
        """JSON or a sentence, as asked."""
        if self.as_json:
            self.json(value)
        elif not self.quiet:
            self.line(text)

    def error(self, error: HaliError) -> int:
        """One clear line (or one JSON object); returns the exit code."""
        if self.as_json:
            with suppress(BrokenPipeError):  # nobody reads it: the exit code tells
                self.json({"ok": False, "error": error.to_wire()}, line=True)
        else:
            message = " ".join(error.message.splitlines())
            hint = f" — {error.hint}" if error.hint else ""
            print(printable(f"hali: {message}{hint}"), file=sys.stderr, flush=True)
            for choice in error.details.get("choices", []):
                print(printable(f"  {choice}"), file=sys.stderr, flush=True)
        return int(error.exit_code)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, first: int = 0, room: int) -> list[str]:
    """Header and rows; the first column is at least `first` wide unless the lines would then exceed `room`."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    widths[0] = max(widths[0], min(first, room - sum(widths[1:]) - 2 * len(widths[1:])))
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (columns, *rows)]


def current(ctx: typer.Context) -> Output:
    """The output of the running command."""
    out = ctx.find_object(Output)
    assert out is not None
    return out
