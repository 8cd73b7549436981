"""Commands in a real terminal (a pseudo-terminal), for tests."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from types import TracebackType

from tests.nodes import WAIT_S, TestNode

# Makes the terminal its controlling one, as a login does, and becomes the command.
LOGIN = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A command in a terminal of its own. `text` is all it has written, without escape sequences."""

    def __init__(self, of: TestNode, *command: str, columns: int = 80, **env: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=of.env | {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""} | env,
        )
        os.close(slave)
        self.raw = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # an echo comes byte by byte

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._master)  # the terminal is gone: SIGHUP
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()

    @property
    def text(self) -> str:
        """See the class."""
        return ESCAPES.sub("", self.raw)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int = 24) -> None:
        """Drag the window; the program is told by a signal, as by a real terminal."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> bool:
        """False at the end."""
        if not select.select([self._master], [], [], 0.05)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.raw += self._decoder.decode(data)
        return bool(data)

    def until(self, what: str | Callable[[str], object]) -> str:
        """Read until `what` was written; all that was."""
        deadline = time.monotonic() + WAIT_S
        while not (what in self.text if isinstance(what, str) else what(self.text)):
            alive = self._read()
            assert alive, f"ended before {what!r}:\n{self.text}"
            assert time.monotonic() < deadline, f"no {what!r} in:\n{self.text}"
        return self.text

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + WAIT_S
        while self._read():
            assert time.monotonic() < deadline, f"does not end:\n{self.text}"
        return self.process.wait(WAIT_S)


def hali(of: TestNode, *args: str, columns: int = 80, **env: str) -> Terminal:
    """`hali ARGS` in a terminal."""
    return Terminal(of, sys.executable, "-m", "hali.cli", *args, columns=columns, **env)
