"""Which GPUs there are and how many layers they get, with given devices; and what this machine's own library tells."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

pytest.importorskip("llama_cpp")

from llama_cpp import _ggml
from llama_cpp import llama_cpp as low

from hali.engine import backend, offload
from hali.engine.native_log import NativeLog
from hali.engine.offload import CPU, GPU, INTEGRATED, Device
from hali.engine.options import EngineOptions
from hali.model.errors import EngineUnavailable, ModelLoadFailed

GIB = 1024**3
ACCELERATOR = 3  # BLAS and the like: computes for the CPU
CUDA, VULKAN = 0x7F00_0000_0010, 0x7F00_0000_0020  # addresses: more than 32 bits
HOST = Device(CPU, 1, 10 * GIB, 16 * GIB)


def library(*found: Device) -> SimpleNamespace:
    """ggml with these devices; the handle of each is its number from a high address on."""
    base = 0x7FFF_0000_0000

    def memory(handle: int, free: Any, total: Any) -> None:
        free._obj.value, total._obj.value = found[handle - base].free, found[handle - base].total

    return SimpleNamespace(
        ggml_backend_dev_count=lambda: len(found),
        ggml_backend_dev_get=lambda index: base + index,
        ggml_backend_dev_type=lambda handle: found[handle - base].kind,
        ggml_backend_dev_backend_reg=lambda handle: found[handle - base].backend,
        ggml_backend_dev_memory=memory,
    )


def test_devices_are_read_as_the_library_tells_them() -> None:
    found = [Device(GPU, CUDA, 20 * GIB, 24 * GIB), Device(INTEGRATED, VULKAN, 0, 0), HOST]
    assert offload.devices(library(*found)) == found
    assert offload.devices(library()) == []


def test_the_library_of_this_machine_tells_its_cpu_and_memory() -> None:
    found = [device for device in offload.devices(_ggml.libggml) if device.kind == CPU]
    assert len(found) == 1
    assert found[0].total == psutil.virtual_memory().total and 0 < found[0].free <= found[0].total
    assert found[0].backend > 0
    for name, (arguments, result) in offload._FUNCTIONS.items():
        function = getattr(_ggml.libggml, name)
        assert (function.argtypes, function.restype) == (arguments, result)
    assert offload._FUNCTIONS["ggml_backend_dev_get"][1] is ctypes.c_void_p, "an int would lose half of an address"


@pytest.mark.skipif(low.llama_supports_gpu_offload(), reason="this llama.cpp has a GPU")
def test_a_build_without_a_gpu_is_not_even_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "devices", None)
    assert offload.free_memory() == []
    assert offload.fitting_layers(Path("/nonexistent"), EngineOptions(), []) == 0


def test_the_free_memory_of_each_gpu_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    two = library(HOST, Device(GPU, CUDA, 20 * GIB, 24 * GIB), Device(GPU, CUDA, 5 * GIB, 8 * GIB))
    monkeypatch.setattr(low, "llama_supports_gpu_offload", lambda: True)
    monkeypatch.setattr(_ggml, "libggml", two)
    assert offload.free_memory() == [20 * GIB, 5 * GIB]
    monkeypatch.setattr(_ggml, "libggml", library(HOST))  # a build that reaches other machines (RPC), with none
    assert offload.free_memory() == []


def test_a_library_that_cannot_be_asked_is_named_with_what_to_do() -> None:
    old = library(HOST)
    del old.ggml_backend_dev_memory
    with pytest.raises(EngineUnavailable, match="ggml_backend_dev_memory is missing") as caught:
        offload.devices(old)
    assert "engine.gpu_layers" in (caught.value.hint or "")


def test_one_backend_tells_of_the_gpus_and_integrated_ones_count_only_alone() -> None:
    card, same, own = Device(GPU, CUDA, 9, 9), Device(GPU, VULKAN, 9, 9), Device(INTEGRATED, VULKAN, 9, 9)
    blas = Device(ACCELERATOR, 2, 9, 9)
    assert offload.gpus([HOST, blas]) == []
    assert offload.gpus([own, card, card, same, blas, HOST]) == [card, card]
    assert offload.gpus([own, HOST]) == [own]


@pytest.mark.model
def test_a_model_is_put_on_a_gpu_as_far_as_it_fits(smollm2: Path) -> None:
    options = EngineOptions()
    counts = [offload.fitting_layers(smollm2, options, [GIB + size * 2**20]) for size in range(0, 1024, 32)]
    assert counts[0] == 0 and counts[-1] == 31, "30 layers and the output matrix"
    assert counts == sorted(counts) and len(set(counts)) > 5
    half = next(size for size, count in enumerate(counts) if count > 15)
    room = [GIB + half * 32 * 2**20]
    with_adapter = EngineOptions(lora=((str(smollm2), 1.0),))
    assert offload.fitting_layers(smollm2, with_adapter, room) < counts[half], "an adapter goes there too"


def test_of_a_file_that_tells_no_sizes_nothing_goes_to_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(b"GGUF of another kind")
    assert offload.fitting_layers(path, EngineOptions(), [24 * GIB]) == 0
    assert "odd.gguf" in capsys.readouterr().err


# ---- what the worker makes of it


class Loads:
    """`backend.Model` that keeps its options, and fails with more layers than `most`."""

    def __init__(self, most: int) -> None:
        self.tried: list[int | None] = []
        self._most = most

    def __call__(self, path: Path, options: EngineOptions, *_: object) -> EngineOptions:
        self.tried.append(options.gpu_layers)
        if (options.gpu_layers or 0) > self._most:
            raise ModelLoadFailed("out of memory")
        return options


def loading(monkeypatch: pytest.MonkeyPatch, most: int, fits: int) -> Loads:
    loads = Loads(most)
    monkeypatch.setattr(backend, "Model", loads)
    monkeypatch.setattr(offload, "free_memory", lambda: [24 * GIB])
    monkeypatch.setattr(offload, "fitting_layers", lambda *_: fits)
    return loads


def opened(layers: int | None) -> Any:
    return backend.open_model(Path("m.gguf"), EngineOptions(gpu_layers=layers), NativeLog(), lambda _: None)


@pytest.mark.parametrize(("asked", "tried"), [(None, 20), (0, 0), (5, 5), (-1, -1)])
def test_the_worker_chooses_only_where_nobody_did(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, tried: int
) -> None:
    loads = loading(monkeypatch, most=99, fits=20)
    assert opened(asked).gpu_layers == tried
    assert loads.tried == [tried]


def test_a_choice_that_does_not_fit_after_all_goes_to_the_cpu_and_a_persons_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = loading(monkeypatch, most=10, fits=20)
    assert opened(None).gpu_layers == 0
    assert loads.tried == [20, 0]
    assert "20 layers" in capsys.readouterr().err
    with pytest.raises(ModelLoadFailed):
        opened(20)
    assert loads.tried == [20, 0, 20]


def test_where_gpus_cannot_be_asked_the_model_runs_on_the_cpu_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = loading(monkeypatch, most=99, fits=20)
    old = library(HOST)
    del old.ggml_backend_dev_memory
    monkeypatch.setattr(offload, "free_memory", lambda: offload.devices(old))
    assert opened(None).gpu_layers == 0 and loads.tried == [0]
    assert "engine.gpu_layers" in capsys.readouterr().err


def test_a_file_that_cannot_be_loaded_at_all_is_tried_once_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = loading(monkeypatch, most=-1, fits=0)
    with pytest.raises(ModelLoadFailed):
        opened(None)
    assert loads.tried == [0]


@pytest.mark.parametrize(
    ("asked", "supported", "told"),
    [(0, True, 0), (5, True, 5), (31, True, 31), (40, True, 31), (-1, True, 31), (5, False, 0), (-1, False, 0)],
)
def test_told_are_the_layers_that_there_are_and_none_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, asked: int, supported: bool, told: int
) -> None:
    monkeypatch.setattr(low, "llama_supports_gpu_offload", lambda: supported)
    model = backend.Model.__new__(backend.Model)
    model.n_layer = 30
    assert model._on_gpus(asked) == told
