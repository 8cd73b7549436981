"""Real registry servers for tests: `hali registry serve` as a process, found by the URL it prints, ended in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.nodes import WAIT_S
from tests.unit.wire.gguf_files import LLAMA, gguf, tensor


class RegistryServer:
    """One server over one database, started and stopped at will on one port."""

    def __init__(self, folder: Path, *database: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._database = database or ("--db", str(folder / "registry.db"))
        with socket.socket() as probe:  # known before it runs, for tests of a registry that is down
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it says that it serves."""
        command = [
            sys.executable,
            "-m",
            "hali.cli",
            "registry",
            "serve",
            "--json",
            "--listen",
            f"127.0.0.1:{self.port}",
        ]
        env = {k: v for k, v in os.environ.items() if not k.startswith("HALI_")} | {"HALI_HOME": str(self._folder)}
        self._process = subprocess.Popen([*command, *self._database], env=env, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = self._process.stdout.readline()
            assert line, f"the registry ended at once: {text}"
            text += line
        assert json.loads(text) == {"url": self.url}, text

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            assert self._process.stdout is not None
            assert self._process.wait(WAIT_S) == 0
            self._process.stdout.close()
            self._process = None

    def get(self, path: str, **params: Any) -> httpx.Response:
        """One GET."""
        return httpx.get(self.url + path, params=params, timeout=WAIT_S)

    def post(self, path: str, body: bytes) -> httpx.Response:
        """One POST of a signed document."""
        return httpx.post(self.url + path, content=body, headers={"content-type": "application/json"}, timeout=WAIT_S)

    def search(self, text: str, **params: Any) -> list[dict[str, Any]]:
        """The rows of a search."""
        found: list[dict[str, Any]] = self.get("/search", q=text, **params).json()["results"]
        return found


@contextmanager
def registry(folder: Path, *database: str) -> Iterator[RegistryServer]:
    """A running server, stopped at the end."""
    made = RegistryServer(folder, *database)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def gguf_file(path: Path, seed: int, kib: int = 600) -> Path:
    """A small GGUF that is valid from end to end, different for each seed; its file type is Q4_K_M."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = gguf(LLAMA, [tensor("token_embd.weight", [64, 4])], data=1024)
    path.write_bytes(head + bytes([seed]) * (kib * 1024))
    return path
