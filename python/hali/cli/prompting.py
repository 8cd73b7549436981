"""Reading prompts from a terminal, and keeping it quiet while a reply is written."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator

from hali.runtime.signals import closing_at_the_end

FENCE = '"""'
NOTICED_S = 0.1  # the longest that Ctrl-C can go unnoticed at the prompt


def read_prompt() -> str:
    """One prompt; several lines between triple quotes. EOFError at the end of input."""
    with _noticing_ctrl_c():
        said = _line(">>> ").strip()
        if not said.startswith(FENCE):
            return said
        lines = [said.removeprefix(FENCE)]
        while not lines[-1].rstrip().endswith(FENCE):
            lines.append(_line("... "))
    return "\n".join(lines).rstrip().removesuffix(FENCE).strip()


def _line(prompt: str) -> str:
    """What was typed, taken for UTF-8 in a locale that knows no letters (`LC_ALL=C`); bytes that are no text become question marks."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # which `input` minds
    return input(prompt).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@contextlib.contextmanager
def _noticing_ctrl_c() -> Iterator[None]:
    """Ctrl-C at any moment of `input` is noticed.

    CPython's readline raises what interrupts its wait for a key; a Ctrl-C a moment before that wait would be raised
    with the next interruption only. So an alarm interrupts it now and then.
    """
    if not hasattr(signal, "setitimer"):  # Windows, whose Python reads lines without readline
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, NOTICED_S, NOTICED_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_foreground() -> bool:
    """False for a job in the background of its terminal (`&`, Ctrl-Z and `bg`): the kernel stops one that changes its settings."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # not the terminal of this session, so it stops nobody
        return True


@contextlib.contextmanager
def no_echo() -> Iterator[None]:
    """What is typed while a reply is written is not shown in the middle of it; it is there at the next prompt. Undone by SIGTERM too."""
    if not sys.stdin.isatty() or not in_foreground():
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    with closing_at_the_end():
        try:
            termios.tcsetattr(terminal, termios.TCSANOW, silent)
            yield
        finally:
            if in_foreground():  # else it is the shell's again, which has set it as it wants it
                termios.tcsetattr(terminal, termios.TCSANOW, before)
