"""Text of strangers on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line that no terminal takes as a command: what cannot be printed is written as Python writes it, a line's end as `\\n`."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines, which it keeps."""
    return "\n".join(map(printable, text.split("\n")))
