"""Where a reply is written while it comes."""

from __future__ import annotations

import shutil
import sys

from hali.cli.chat import Thought
from hali.cli.output import Output
from hali.cli.wrapping import Wrapper

DIM, PLAIN = "\x1b[2m", "\x1b[22m"


class Screen:
    """Wrapped on a terminal, as it is elsewhere, nowhere with --json. Thoughts are dimmed, and shown on a terminal only."""

    def __init__(self, out: Output, waiting: str = "") -> None:
        self._silent = out.as_json
        terminal = sys.stdout.isatty()
        self._wrap = Wrapper(shutil.get_terminal_size().columns) if terminal else None
        self._waiting = waiting if terminal and out.animated else ""
        self._dims = out.color
        self._thinking = False

    def __enter__(self) -> Screen:
        if self._waiting:
            print(self._waiting, end="", file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._erase()
        self._think(False)

    def _erase(self) -> None:
        if self._waiting:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._waiting = ""

    def write(self, piece: str) -> None:
        """A piece of the reply."""
        self._erase()
        thought = isinstance(piece, Thought)
        if self._silent or (thought and not self._wrap):
            return
        self._think(thought)
        sys.stdout.write(self._wrap.feed(piece) if self._wrap else piece)
        sys.stdout.flush()

    def _think(self, thought: bool) -> None:
        if thought == self._thinking:
            return
        self._thinking = thought
        if self._dims:
            sys.stdout.write(DIM if thought else PLAIN)
        if not thought and self._wrap:
            sys.stdout.write(self._wrap.feed("\n\n"))
        sys.stdout.flush()
