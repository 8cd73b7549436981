"""LoRA adapters: small matrices that change what a model says, added while it computes. Worker only."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as low

from hali.engine.options import EngineOptions
from hali.model.errors import ModelLoadFailed


class Adapters:
    """Those of one loaded model; llama.cpp frees them with it. ModelLoadFailed for one that does not fit the model."""

    def __init__(self, model: Any, options: EngineOptions, reason: Callable[[], str]) -> None:
        self._reason = reason
        self._loaded = [self._load(model, Path(path)) for path, _ in options.lora]
        self._scales = [scale for _, scale in options.lora]

    def _load(self, model: Any, path: Path) -> Any:
        adapter = low.llama_adapter_lora_init(model, os.fsencode(path))
        if not adapter:
            raise ModelLoadFailed(f"the adapter {path.name} does not fit this model: {self._reason()}")
        return adapter

    def apply(self, ctx: Any) -> None:
        """From now on whatever `ctx` computes goes through all of them, each by its scale."""
        count = len(self._loaded)
        if count == 0:
            return
        adapters = (low.llama_adapter_lora_p_ctypes * count)(*self._loaded)
        scales = (ctypes.c_float * count)(*self._scales)
        if low.llama_set_adapters_lora(ctx, adapters, count, scales) != 0:
            raise ModelLoadFailed(f"llama.cpp does not take the adapters: {self._reason()}")
