"""Does a model fit this machine? A pure estimate from its size, for a list to choose from; loading decides."""

from __future__ import annotations

import math
from typing import Literal

from hali.model.units import KIB, MIB
from hali.runtime.memory import Memory

Fit = Literal["gpu", "ram", "shared", "no"]

WEIGHT_BYTES = 0.6  # a parameter at Q4_K_M; of larger quants the estimate asks for somewhat too much KV cache
# Llama 3 8B: 32 layers, K and V of 1,024 values each, 2 bytes. 1 B has 32 KiB, 70 B 320 KiB: it grows about as the square root.
KV_PER_TOKEN_8B = 128 * KIB
COMPUTE = 300 * MIB  # llama.cpp's compute buffers for a batch of 512 rows and a vocabulary of 128,000 tokens


def memory_needed(size: int, tokens: int) -> int:
    """Bytes to run a model whose files have `size` bytes, with a KV cache of `tokens`."""
    parameters = size / WEIGHT_BYTES
    return size + round(tokens * KV_PER_TOKEN_8B * math.sqrt(parameters / 8e9)) + COMPUTE


def fit(size: int, memory: Memory, tokens: int) -> Fit | None:
    """Where it fits: on the GPU, in RAM, only in both together, or not at all; None when the RAM is unknown."""
    needed = memory_needed(size, tokens)
    if memory.gpu is not None and needed <= memory.gpu:
        return "gpu"
    if memory.ram is None:
        return None
    if needed <= memory.ram:
        return "ram"
    return "shared" if needed <= memory.ram + (memory.gpu or 0) else "no"
