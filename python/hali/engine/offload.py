"""Which GPUs llama.cpp can put layers on, and how many it should where nobody chose. Worker only."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llama_cpp import llama_cpp as low

from hali.engine.options import EngineOptions
from hali.model.errors import EngineUnavailable, HaliError

CPU, GPU, INTEGRATED = 0, 1, 2  # enum ggml_backend_dev_type of ggml-backend.h
_DEVICE = ctypes.c_void_p
_SIZE = ctypes.POINTER(ctypes.c_size_t)
# ggml-backend.h; llama-cpp-python declares none of them.
_FUNCTIONS: dict[str, tuple[list[Any], Any]] = {
    "ggml_backend_dev_count": ([], ctypes.c_size_t),
    "ggml_backend_dev_get": ([ctypes.c_size_t], _DEVICE),
    "ggml_backend_dev_type": ([_DEVICE], ctypes.c_int),
    "ggml_backend_dev_backend_reg": ([_DEVICE], ctypes.c_void_p),
    "ggml_backend_dev_memory": ([_DEVICE, _SIZE, _SIZE], None),
}


class Device(NamedTuple):
    """One device of ggml: its type, the backend (CUDA, Vulkan, …) that drives it, and bytes of its memory; 0 = it does not tell."""

    kind: int
    backend: int
    free: int
    total: int


def devices(ggml: Any) -> list[Device]:
    """All that the library knows, the CPU included. EngineUnavailable when it is too old to be asked."""
    for name, (arguments, result) in _FUNCTIONS.items():
        # Some are libggml-base's: the dynamic linker looks into what libggml needs, too.
        function = getattr(ggml, name, None)
        if function is None:
            raise EngineUnavailable(
                f"this llama.cpp can use a GPU, but does not tell its memory: {name} is missing",
                hint="say how many layers to put there: `hali config set engine.gpu_layers N`, 0 for none",
            )
        function.argtypes, function.restype = arguments, result
    return [_device(ggml, ggml.ggml_backend_dev_get(index)) for index in range(ggml.ggml_backend_dev_count())]


def _device(ggml: Any, device: Any) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    kind, backend = ggml.ggml_backend_dev_type(device), ggml.ggml_backend_dev_backend_reg(device)
    return Device(kind, backend, free.value, total.value)


def gpus(found: Sequence[Device]) -> list[Device]:
    """Those that llama.cpp puts layers on: GPUs, or integrated ones where there is no other (llama.cpp's own rule).

    Only those of one backend: CUDA and Vulkan may both name the same card.
    """
    for kind in (GPU, INTEGRATED):
        if same := [device for device in found if device.kind == kind]:
            return [device for device in same if device.backend == same[0].backend]
    return []


def free_memory() -> list[int]:
    """Free bytes of each GPU; empty where this build knows none."""
    if not low.llama_supports_gpu_offload():
        return []
    from llama_cpp import _ggml  # its own word is "at your own risk": not where nothing is to be had by it

    return [device.free for device in gpus(devices(_ggml.libggml))]


def fitting_layers(path: Path, options: EngineOptions, free: Sequence[int]) -> int:
    """Layers of a model, the output matrix as one more, that GPUs with so much free memory hold."""
    if not free:
        return 0
    # Not on a machine without a GPU: there a worker starts as fast as ever.
    from hali.engine.estimate import gpu_layers
    from hali.engine.fitting import read_model

    try:
        model = read_model(path, options)
    except (HaliError, OSError) as error:  # llama.cpp may know what to do with it
        sys.stderr.write(f"engine worker: nothing is put on the GPU, as {path.name} tells no sizes: {error}\n")
        return 0
    return gpu_layers(model.shape, options, free, model.beside(options))
