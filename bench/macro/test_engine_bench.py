"""P9, P10, P11: tokens through the HTTP API, against llama-bench and llama-server of the same tree and threads.

All get the same request bodies; the end-of-reply token is banned, so that each reply has exactly the tokens asked for.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.macro.engine_rivals import ask, llama_bench, llama_server
from bench.versus import SHORT, versus_told
from tests.nodes import node

pytestmark = pytest.mark.skipif(SHORT, reason="needs llama-server, which is built for the full form only")

THREADS = len(os.sched_getaffinity(0))
STREAMS = (1, 4, 8, 16)
CONTEXT = 2048
TOKENS = (128, 512)  # as llama-bench has it; and of a long answer, in which there is something to guess from
STREAM_TOKENS = 48  # of each of several streams: 16 of them with their prompts take 15 s on two cores
END = 2  # <|im_end|> of SmolLM2
WORDS = [
    "river",
    "stone",
    "market",
    "lantern",
    "orchard",
    "winter",
    "copper",
    "signal",
    "garden",
    "harbor",
    "violin",
    "meadow",
]


@dataclass(frozen=True)
class Servers:
    """URLs, and the file they answer with. llama-server has the context for each stream, or as much memory as hali."""

    hali: str
    llama: str
    llama_shared: str
    model: Path


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A node and llama-server twice, with slots for the most streams and the same threads; all have ended afterwards."""
    script = Path(__file__).parents[2] / "ci" / "ensure_model"
    model = Path(subprocess.run([script], check=True, capture_output=True, text=True).stdout.strip())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hali-bench-")))
        sizes = {"engine_slots": str(max(STREAMS)), "engine_threads": str(THREADS), "engine_n_ctx": str(CONTEXT)}
        ours = stack.enter_context(node(folder / "home", **sizes))
        ours.add(model)
        url = ours.status()["http"]
        one(url, 1)  # loads the model, and then its cells are known
        [engine] = ours.call("ps")["engines"]
        slots = {"threads": THREADS, "slots": max(STREAMS)}
        whole = stack.enter_context(llama_server(model, cells=max(STREAMS) * CONTEXT, **slots))
        shared = stack.enter_context(llama_server(model, cells=engine["kv_total"], shared=True, **slots))
        yield Servers(url, whole, shared, model)


def body(prompt: str, tokens: int, system: str = "You answer at length.") -> dict[str, Any]:
    """A greedy request that is answered with exactly `tokens` tokens."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    return {"model": "smollm2", "messages": messages, "temperature": 0, "max_tokens": tokens, "logit_bias": {END: -100}}


def prompts(count: int, draw: random.Random) -> list[str]:
    """Of mixed lengths: a sentence to a page, none like another."""
    lengths = [draw.choice((10, 40, 120, 350)) for _ in range(count)]
    return [f"Write about {draw.random()}: " + " ".join(draw.choices(WORDS, k=length)) for length in lengths]


def one(url: str, tokens: int) -> dict[str, Any]:
    """What was measured of one stream of `tokens` tokens."""
    [reply] = ask(url, [body("Tell me about the sea.", tokens)])["replies"]
    assert reply["tokens"] == tokens
    return dict(reply)


def decode_s(url: str, tokens: int) -> float:
    """Seconds of the tokens after the first."""
    reply = one(url, tokens)
    return float(reply["total_s"] - reply["ttft_s"]) * tokens / (tokens - 1)


@pytest.mark.parametrize("tokens", TOKENS)
def test_one_stream(benchmark: BenchmarkFixture, servers: Servers, tokens: int) -> None:
    """P9."""
    depth = one(servers.hali, tokens)["prompt"]
    rivals = {
        "llama-server": lambda: decode_s(servers.llama, tokens),
        "llama-bench": lambda: llama_bench(servers.model, threads=THREADS, tokens=tokens, depth=depth),
    }
    versus_told(benchmark, "P9", f"one stream, {tokens} tokens", lambda: decode_s(servers.hali, tokens), rivals)


@pytest.mark.parametrize("streams", STREAMS)
def test_streams(benchmark: BenchmarkFixture, servers: Servers, streams: int) -> None:
    """P10: all tokens of all streams, mixed prompts, the prompts of a round the same for both and new in each."""
    seeds = {"hali": 0, "llama": 0, "llama_shared": 0}

    def run(name: str, url: str) -> float:
        seeds[name] += 1
        bodies = [
            body(prompt, STREAM_TOKENS) for prompt in prompts(streams, random.Random(1000 * streams + seeds[name]))
        ]
        done = ask(url, bodies)
        assert all(reply["tokens"] == STREAM_TOKENS for reply in done["replies"])
        waits = sorted(reply["ttft_s"] for reply in done["replies"])
        ttft.setdefault(name, []).append(waits[-1 - len(waits) // 20])
        return float(done["wall_s"])

    ttft: dict[str, list[float]] = {}
    rivals = {
        "llama-server": lambda: run("llama", servers.llama),
        "llama-server, one KV cache": lambda: run("llama_shared", servers.llama_shared),
    }
    versus_told(benchmark, "P10", f"{streams} streams", lambda: run("hali", servers.hali), rivals)
    benchmark.extra_info["p95_ttft_s"] = {name: statistics.median(all_) for name, all_ in ttft.items()}


def test_shared_prompt(benchmark: BenchmarkFixture, servers: Servers) -> None:
    """P11: seconds to the first token with a system prompt of a thousand tokens that was seen before, by all but one."""
    draw = random.Random(11)
    shared = " ".join(draw.choices(WORDS, k=900))

    def ttft(url: str, system: str) -> float:
        [reply] = ask(url, [body(f"What is {draw.random()}?", 4, system)])["replies"]
        return float(reply["ttft_s"])

    rivals = {
        "llama-server": lambda: ttft(servers.llama, shared),
        "hali, never seen": lambda: ttft(servers.hali, f"{draw.random()} {shared}"),
    }
    versus_told(benchmark, "P11", "1,000 shared tokens", lambda: ttft(servers.hali, shared), rivals)
