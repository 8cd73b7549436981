"""The daemon's end of `worker_nursery`: a process that runs a worker's life for each file it is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class Nursery:
    """`with Nursery() as nursery:`; the end of the block ends the process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.fakes.worker_nursery"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> Self:
        return self

    def ending(self, path: Path, temperature: float = 0.0) -> str:
        """`answered`, `refused <error>` or `died <how>`: what became of the worker that loaded `path`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{temperature} {path}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery itself has died"
        return line.strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
