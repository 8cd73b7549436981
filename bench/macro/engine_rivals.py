"""Who answers besides hali: llama-server and llama-bench, built from the tree that llama-cpp-python was built from."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY_S = 60.0


def tools() -> Path:
    """The folder with both programs; built once, which takes minutes."""
    script = Path(__file__).parents[2] / "ci" / "llama_tools"
    return Path(subprocess.run([script], check=True, capture_output=True, text=True).stdout.strip())


@contextmanager
def llama_server(model: Path, *, threads: int, slots: int, cells: int, shared: bool = False) -> Iterator[str]:
    """Its URL while it runs, with a KV cache of so many cells: cut into one part for each slot, or `shared` by all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [tools() / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", str(port), "--no-webui"]
    sizes = ["-np", str(slots), "-c", str(cells), "-t", str(threads), "-tb", str(threads), "-fa", "on"]
    sizes += ["--kv-unified"] if shared else []
    process = subprocess.Popen([*command, *sizes], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "llama-server ended at once"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("llama-server did not get ready")


def llama_bench(model: Path, *, threads: int, tokens: int, depth: int) -> float:
    """Seconds that llama-bench takes for so many tokens, one after the other, behind a prompt of `depth`, which is not counted."""
    sizes = ["-p", "0", "-d", str(depth), "-n", str(tokens)]
    command = [tools() / "llama-bench", "-m", model, "-t", str(threads), *sizes]
    done = subprocess.run([*command, "-r", "1", "-fa", "1", "-o", "json"], check=True, capture_output=True, text=True)
    return tokens / float(json.loads(done.stdout)[0]["avg_ts"])


def ask(url: str, bodies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `bench.macro.streams` measured of these requests sent at once."""
    command = [sys.executable, "-m", "bench.macro.streams", url]
    done = subprocess.run(command, input=json.dumps(list(bodies)), check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
