"""A screen that is drawn again and again in place: nothing scrolls, nothing flickers, and a resized window is drawn at once."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hali.runtime.signals import closing_at_the_end, woken_by

# The terminal's other screen, so that what was there before comes back; without its cursor.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, REST_OF_LINE, REST = "\x1b[H", "\x1b[K", "\x1b[J"
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Live:
    """The open screen."""

    def __init__(self, resized: socket.socket, *, color: bool) -> None:
        self._resized, self._color = resized, color

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines, now."""
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines instead of the last ones."""
        sys.stdout.write(frame(lines, *self.size, color=self._color))
        sys.stdout.flush()

    def wait(self, seconds: float) -> None:
        """Until the next drawing is due, or the window has another size."""
        if select.select([self._resized], [], [], seconds)[0]:
            self._resized.recv(4096)


def frame(lines: Sequence[str], columns: int, rows: int, *, color: bool) -> str:
    """What to write: each line over the old one, the rest of it cleared. Lines never wrap, and the last row stays free."""
    shown = [cut(line, columns) for line in lines[: max(rows - 1, 1)]]
    return HOME + "".join(f"{_styled(line, color)}{REST_OF_LINE}\r\n" for line in shown) + REST


def cut(line: str, columns: int) -> str:
    """At most `columns`, with a mark where something is missing; what a terminal would take as a command is left out."""
    line = "".join(char for char in line if char.isprintable())
    return line if len(line) <= columns else f"{line[: max(columns - 1, 0)]}…"


def _styled(line: str, color: bool) -> str:
    """Headings of tables are words in capitals."""
    heading = line.split("  ", 1)[0]
    return f"{BOLD}{line}{PLAIN}" if color and heading.isupper() else line


@contextmanager
def live(*, color: bool) -> Iterator[Live]:
    """A screen for the length of the block; however it ends, the terminal is as it was."""
    with closing_at_the_end(), woken_by([signal.SIGWINCH], lambda *_: None) as resized:
        sys.stdout.write(ENTER)
        try:
            yield Live(resized, color=color)
        finally:
            sys.stdout.write(LEAVE)
            sys.stdout.flush()
