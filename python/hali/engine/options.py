"""What can be chosen when an engine is started, and what it counts while it runs."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from hali.engine.speculate import Speculation

KvType = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]

DEFAULT_CONTEXT = 4096  # tokens a session: long enough for a chat, 0.5 GB of KV cache for an 8 B model
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ, fixed when llama.cpp is compiled


class EngineOptions(msgspec.Struct, frozen=True):
    """Start options of one engine. 0 and None mean "choose for me", by the rule in the comment."""

    n_ctx: int = 0  # tokens of one session, prompt and reply; 0 = the smaller of the model's own context and 4,096
    n_kv: int = 0  # tokens all sessions share; 0 = twice n_ctx: a full session never starves the others
    n_seq_max: int = 8  # sessions decoded together; more wait. Beyond 8 rows two cores gain little (pipeline.md 4.2)
    n_batch: int = 512  # rows of one llama_decode; llama-cpp-python's own, needed for identical text
    threads: int = 0  # for one row; 0 = half the cores
    threads_batch: int = 0  # for several rows; 0 = all cores but two, at least `threads`
    # Explicit, never "auto": it changes roundings. On is what llama.cpp itself chooses; cells of other sessions cost a
    # row nearly nothing then (16 sessions of SmolLM2 in one cache: 91 ms a step, without it 127).
    flash_attn: bool = True
    kv_type: KvType = "f16"  # of both K and V
    gpu_layers: int | None = None  # layers on GPUs, the output matrix as one more; -1 = all, None = as many as fit
    copy_weights: bool = False  # into memory, instead of mapping the file: for huge pages (pages.py)
    prefix_cache: bool = True  # keep what prompts and replies begin with, for later requests that begin alike
    projector: str | None = None  # path of the file that turns images into vectors
    no_images: str | None = None  # why none are read although such a file lies beside the model
    speculation: Speculation = "auto"  # compute probable next tokens ahead; "auto" while that is measured to pay
    draft: str | None = None  # path of a small model of the same vocabulary that guesses what this one will say
    memory_limit: int | None = None  # bytes of address space of the worker (RLIMIT_AS); None = no limit
    lora: tuple[tuple[str, float], ...] = ()  # LoRA adapters of every request: the file of each, and how much of it
    layer_start: int = 0
    layer_end: int | None = None  # None = the last layer
    start_timeout_s: float = 300.0  # a 40 GB file from a slow disk at 150 MB/s; then the load has failed

    def problems(self) -> list[str]:
        """What is wrong with these values, in words; empty if nothing is."""
        limits = (("n_seq_max", 1, MAX_SEQUENCES), ("n_batch", 32, 8192), ("n_ctx", 0, 1 << 24), ("n_kv", 0, 1 << 26))
        found = [
            f"{name} is {getattr(self, name)}, outside {low} to {high}"
            for name, low, high in limits
            if not low <= getattr(self, name) <= high
        ]
        found += [f"the scale {scale} of {path}" for path, scale in self.lora if not math.isfinite(scale)]
        if self.threads < 0 or self.threads_batch < 0:
            found.append("threads are negative")
        if self.kv_type not in ("f32", "f16", "bf16") and not self.flash_attn:
            found.append(f"a {self.kv_type} KV cache needs flash_attn")  # llama.cpp refuses a quantised V without it
        return found


class EngineStats(msgspec.Struct, frozen=True):
    """Counters of one engine as it last reported them; `rss_bytes` is read when asked, None if it cannot be."""

    sessions: int = 0  # admitted, holding a sequence id
    queued: int = 0
    kv_used: int = 0  # cells of the KV cache that are taken; those that sessions share count once
    kv_total: int = 0
    sequences_free: int = 0
    samplers: int = 0  # llama.cpp sampler chains alive
    prompt_tokens: int = 0  # computed since the start
    completion_tokens: int = 0  # sampled since the start
    decodes: int = 0
    preempted: int = 0  # sessions put back because the shared KV cache was full
    cached_tokens: int = 0  # kept for requests to come, in `cached_bytes` outside the KV cache
    cached_bytes: int = 0
    cache_hits: int = 0  # sessions that began with kept tokens
    cache_hit_tokens: int = 0
    cache_evicted: int = 0  # blocks of tokens given up for newer ones
    drafted: int = 0  # tokens computed ahead
    accepted: int = 0  # of them that were right
    rss_bytes: int | None = None
    tokens_per_s: float | None = None  # sampled, all sessions together, over the last seconds; None while none runs
