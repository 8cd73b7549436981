"""Reading prompts from a terminal, and keeping it quiet while a reply is written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

FENCE = '"""'


def read_prompt() -> str:
    """One prompt; several lines between triple quotes. EOFError at the end of input."""
    said = input(">>> ").strip()
    if not said.startswith(FENCE):
        return said
    lines = [said.removeprefix(FENCE)]
    while not lines[-1].rstrip().endswith(FENCE):
        lines.append(input("... "))
    return "\n".join(lines).rstrip().removesuffix(FENCE).strip()


@contextlib.contextmanager
def no_echo() -> Iterator[None]:
    """What is typed while a reply is written is not shown in the middle of it; it is there at the next prompt."""
    if not sys.stdin.isatty():
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(terminal, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
