"""What was typed in chats, kept across them in the data directory, for the arrow keys and Ctrl-R of the next one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from hali.config.files import write_secret

MOST = 1000  # lines; a person finds nothing in more
LONGEST = 10_000  # characters of a line: a pasted document is no line to come back to


@contextlib.contextmanager
def kept(file: Path) -> Iterator[None]:
    """Lines typed in the block are added to `file`, which the owner alone can read; those of before can be called back."""
    try:
        import readline  # importing it also gives `input` arrow keys and pasting of several lines
    except ImportError:  # a Python without it: then nothing can be called back either
        yield
        return
    readline.clear_history()
    for line in read(file):
        with contextlib.suppress(UnicodeEncodeError):  # this locale (`LC_ALL=C`) has no such letters
            readline.add_history(line)
    before = readline.get_current_history_length()
    try:
        yield
    finally:
        add(file, _typed(readline, before))


def _typed(readline: ModuleType, before: int) -> list[str]:
    found = (readline.get_history_item(index + 1) for index in range(before, readline.get_current_history_length()))
    return [line for line in found if line]


def read(file: Path) -> list[str]:
    """The lines kept, oldest first."""
    try:
        return file.read_text("utf-8", "replace").split("\n")[:-1][-MOST:]  # `splitlines` would also split at U+2028
    except OSError:
        return []  # none yet, or not ours to read


def add(file: Path, lines: list[str]) -> None:
    """Append, also to what another chat wrote meanwhile, and keep the last `MOST`."""
    new = [line for line in lines if len(line) <= LONGEST and "\n" not in line]
    if new:
        write_secret(
            file, "".join(f"{line}\n" for line in [*read(file), *new][-MOST:]).encode("utf-8", "surrogateescape")
        )
