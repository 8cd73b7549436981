"""P6: a file from a hub that is 50 ms away and paces each connection: `hali pull`, `hf download` and aria2 with 8 connections.

Everybody resolves the address, follows the redirect to the CDN and leaves a file. hali also checks its SHA-256 and seeds
it; aria2 and hf do not check what came, so the bench does, outside of their time. The daemon runs, as it always does;
Python's start is part of `hf download`, which is a command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.macro.far_hub import far_hub
from bench.versus import SHORT, versus_told
from tests.fakes.aria2 import aria2c
from tests.nodes import MIB, node, sha256_of

REPO, RTT_MS, RATE = (
    "bench/far",
    50.0,
    8e6,
)  # bytes per second and connection: eight bring 64 MB/s
SIZE = 128 * MIB
CONNECTIONS = 8

pytestmark = pytest.mark.skipif(SHORT, reason="P6 takes minutes: only the full form measures it")


def test_http_pull(benchmark: BenchmarkFixture, file_of: Callable[[int], Path]) -> None:
    made = file_of(SIZE)
    with tempfile.TemporaryDirectory(prefix="hali-bench-") as name:
        folder = Path(name)
        file = folder / "Far-7B-Q8_0.gguf"
        file.symlink_to(made)
        sha256, out = sha256_of(file), folder / "out"

        def timed(command: list[str], **more: str) -> float:
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=os.environ | {"HOME": name} | more)
            took = time.perf_counter() - began
            assert sha256_of(out / file.name) == sha256
            shutil.rmtree(out)
            return took

        with far_hub(REPO, file, rtt_ms=RTT_MS, rate=RATE) as endpoint, node(folder / "n", hf_endpoint=endpoint) as n:

            def hali() -> float:
                began = time.perf_counter()
                assert n.pull(f"{REPO}/{file.name}")["sha256"] == sha256
                took = time.perf_counter() - began
                n.call("rm", model=sha256)
                return took

            url = f"{endpoint}/{REPO}/resolve/main/{file.name}"
            many = [f"-x{CONNECTIONS}", f"-s{CONNECTIONS}", "-k1M", "--file-allocation=none", "--no-conf"]
            hf = Path(sys.executable).with_name("hf")
            rivals = {
                f"aria2 -x{CONNECTIONS}": lambda: timed([aria2c(), *many, f"--dir={out}", url]),
                "hf download": lambda: timed(
                    [str(hf), "download", REPO, file.name, "--local-dir", str(out)],
                    HF_ENDPOINT=endpoint,
                    HF_HUB_DISABLE_XET="1",
                    HF_HUB_DISABLE_TELEMETRY="1",
                ),
            }
            versus_told(benchmark, "P6", f"{SIZE // MIB} MiB, 50 ms, 8 MB/s a connection", hali, rivals)
