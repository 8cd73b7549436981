"""The text of `--help`. The same facts make docs/cli.md, see `reference.py`."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hali.model.errors import ExitCode

WIDEST = 100  # columns; longer lines are hard to read
EXIT_CODES = {
    ExitCode.OK: "ok",
    ExitCode.FAILED: "failed",
    ExitCode.USAGE: "usage, or a name that fits several models",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.NOT_RUNNING: "daemon not running",
    ExitCode.VERIFICATION: "verification failed",
    ExitCode.NO_SPACE: "no space",
    ExitCode.REFUSED: "refused",
    ExitCode.CONFIG: "bad configuration, or a port or file of the daemon that cannot be used",
    ExitCode.INTERRUPTED: "interrupted",
}
EVERYWHERE = {
    "--json": "Print JSON for programs; errors too, as one object on standard output.",
    "--quiet, -q": "Print results and errors only, no progress and no confirmations.",
    "--no-color": "No colours; the variable NO_COLOR does the same.",
    "--help, -h": "Show the help of a command.",
}
USAGE = "usage: hali COMMAND [ARGUMENTS]      hali COMMAND --help"
ABOUT = "Get large language models onto machines, keep them shared, and run them, alone or together."
HOME = "HALI_HOME chooses the data directory (default ~/.hali)."


class Param(NamedTuple):
    """An argument (no names) or option (no metavar when it is a switch)."""

    names: tuple[str, ...]
    metavar: str
    help: str
    required: bool
    default: str | None

    @property
    def label(self) -> str:
        """`--quant QUANT`, `WHAT`."""
        return " ".join(part for part in (", ".join(self.names), self.metavar) if part)

    @property
    def usage(self) -> str:
        """`[--quant QUANT]`, `WHAT`."""
        text = " ".join(part for part in (*self.names[:1], self.metavar) if part)
        return text if self.required else f"[{text}]"

    @property
    def text(self) -> str:
        """What it does, and its default."""
        return f"{self.help} Default: `{self.default}`." if self.default is not None else self.help


def overview(commands: Mapping[str, str]) -> str:
    """`hali --help`."""
    codes = " · ".join(f"{int(code)} {text}" for code, text in EXIT_CODES.items())
    paragraphs = [USAGE, _fill(ABOUT), _rows(commands), _rows(EVERYWHERE), _fill(HOME), _fill(f"Exit codes: {codes}")]
    return "\n\n".join(paragraphs)


def group(path: str, about: str, commands: Mapping[str, str]) -> str:
    """`hali daemon --help`."""
    return "\n\n".join([f"usage: {path} COMMAND", *_paragraphs(about), _rows(commands)])


def command(path: str, about: str, params: Sequence[Param]) -> str:
    """`hali pull --help`."""
    arguments = {p.label: p.text for p in params if not p.names}
    options = {p.label: p.text for p in params if p.names}
    tables = [f"{title}:\n{_rows(rows)}" for title, rows in (("Arguments", arguments), ("Options", options)) if rows]
    return "\n\n".join(
        [f"usage: {usage(path, params)}", *_paragraphs(about), *tables, "And --json, --quiet, --no-color."]
    )


def usage(path: str, params: Iterable[Param]) -> str:
    """`hali pull WHAT [--quant QUANT]`."""
    return " ".join([path, *(p.usage for p in params)])


def summary(about: str) -> str:
    """The first sentence of a docstring, for a list of commands."""
    first = " ".join(about.split("\n\n", 1)[0].split())
    return first.split(". ", 1)[0].rstrip(".") + "."


def _columns() -> int:
    return min(shutil.get_terminal_size().columns, WIDEST)


def _fill(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _columns(), break_long_words=False, break_on_hyphens=False)


def _paragraphs(about: str) -> list[str]:
    """Wrapped to the terminal, except indented ones, which are examples."""
    return [text if text.startswith("  ") else _fill(text) for text in about.split("\n\n")]


def _rows(rows: Mapping[str, str]) -> str:
    label = max(map(len, rows), default=0)
    return "\n".join(_row(name.ljust(label), text) for name, text in rows.items())


def _row(label: str, text: str) -> str:
    indent = " " * (len(label) + 4)
    room = max(_columns(), len(indent) + 20)  # a label that fills a narrow terminal must still leave room for its text
    filled = textwrap.fill(
        f"  {label}  {text}", room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return filled.rstrip()
