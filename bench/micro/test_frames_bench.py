"""LayerForward frames: encode and decode against NumPy and struct doing the same work, checks included."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hali._native import frames

Tensor = npt.NDArray[np.float32]

SHAPES = [(1, 576), (16, 4096), (512, 8192)]  # a token of SmolLM2, a batch of an 8B model, a prefill chunk of a 70B one
TYPES = {"f32": frames.F32, "bf16": frames.BF16, "f16": frames.F16}
SESSION = bytes(16)


def tensor(rows: int, cols: int) -> Tensor:
    """Values as hidden states have them: most near 1, few in the hundreds."""
    rng = np.random.default_rng(1)
    return (rng.standard_normal((rows, cols)) * 30).astype(np.float32)


def numpy_body(values: Tensor, dtype: int) -> bytes:
    """The payload by NumPy's vectorised operations."""
    if not np.isfinite(values).all():
        raise ValueError
    if dtype == frames.F32:
        return values.tobytes()
    if dtype == frames.BF16:
        bits = values.view(np.uint32)
        return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16).tobytes()
    scales = np.exp2(np.frexp(np.abs(values).max(axis=1, keepdims=True))[1] - 15).astype(np.float32)
    return scales.tobytes() + (values / scales).astype(np.float16).tobytes()


def numpy_encode(values: Tensor, positions: npt.NDArray[np.int32], dtype: int) -> bytes:
    """The same bytes as frames.encode writes."""
    rows, cols = values.shape
    body = numpy_body(values, dtype)
    length = (64 + 9 * rows + 63) // 64 * 64
    fixed = struct.pack(
        "<4sBBBBII16sIHHIIQII", b"HLF1", 1, 1, dtype, 0, 0, 0, SESSION, 0, 0, 0, rows, cols, len(body), length, 0
    )
    return b"".join([fixed, positions.tobytes(), bytes(5 * rows), bytes(length - 64 - 9 * rows), body])


def numpy_decode(data: bytes) -> Tensor:
    """Header, checks and tensor."""
    dtype = data[6]
    rows, cols, size, length, _ = struct.unpack_from("<IIQII", data, 40)
    if length + size != len(data):
        raise ValueError
    if dtype == frames.F32:
        values = np.frombuffer(data, np.float32, rows * cols, length)
    elif dtype == frames.BF16:
        values = (np.frombuffer(data, np.uint16, rows * cols, length).astype(np.uint32) << 16).view(np.float32)
    else:
        scales = np.frombuffer(data, np.float32, rows, length)
        halves = np.frombuffer(data, np.float16, rows * cols, length + 4 * rows).reshape(rows, cols)
        values = (halves.astype(np.float32) * scales[:, None]).reshape(-1)
    if not np.isfinite(values).all():
        raise ValueError
    return values


def native_encode(values: Tensor, positions: npt.NDArray[np.int32], dtype: int) -> bytearray:
    return frames.encode(
        frames.FORWARD, session=SESSION, positions=positions, cols=values.shape[1], dtype=dtype, payload=values
    )


def native_decode(data: bytes) -> memoryview[float]:
    return frames.decode(data).to_f32()


@pytest.mark.parametrize("how", [native_encode, numpy_encode], ids=["hali", "numpy"])
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_encode(
    benchmark: BenchmarkFixture, shape: tuple[int, int], name: str, how: Callable[..., bytes | bytearray]
) -> None:
    values, positions = tensor(*shape), np.arange(shape[0], dtype=np.int32)
    benchmark.group = f"encode {name} {shape[0]}x{shape[1]}"
    benchmark.extra_info["bytes"] = values.nbytes
    written = benchmark(how, values, positions, TYPES[name])
    assert bytes(written) == bytes(native_encode(values, positions, TYPES[name]))


@pytest.mark.parametrize("how", [native_decode, numpy_decode], ids=["hali", "numpy"])
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_decode(
    benchmark: BenchmarkFixture, shape: tuple[int, int], name: str, how: Callable[[bytes], memoryview[float] | Tensor]
) -> None:
    data = bytes(native_encode(tensor(*shape), np.arange(shape[0], dtype=np.int32), TYPES[name]))
    benchmark.group = f"decode {name} {shape[0]}x{shape[1]}"
    got = benchmark(how, data)
    assert bytes(got) == bytes(native_decode(data))
