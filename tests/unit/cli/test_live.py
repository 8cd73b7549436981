"""The live screen and signals."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A handler runs between any two steps of Python code, so here it runs between all of them.
DRAGGED = """
import os, signal, sys
from hali.cli.live import live

def step(*_):
    os.kill(os.getpid(), signal.SIGWINCH)
    return step

with live(color=False) as screen:
    sys.settrace(step)
    for _ in range(3):
        screen.wait(3600)
    sys.settrace(None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no new size")
def test_a_window_dragged_at_any_moment_of_the_wait_ends_it_and_never_hangs_it() -> None:
    """With an Event it is a deadlock: the handler waits for the lock of the wait that it interrupts."""
    subprocess.run([sys.executable, "-c", DRAGGED], check=True, stdout=subprocess.PIPE, timeout=60)
