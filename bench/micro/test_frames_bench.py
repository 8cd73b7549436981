"""P8: a tensor into one LayerForward message and back to float32, against everything else that could carry it.

Each call of each way: header, positions, sequence ids and tensor into one new buffer, with the check for NaN and
infinity and the conversion; then from that buffer all of it again, checked, as rows × cols float32. For f32 the tensor
read is a view of the message; for the other types it is new.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.frame_carriers import CARRIERS, Carrier, Fields, Ints
from bench.micro.frame_numpy import Tensor, convert_into, payload_size, restore
from bench.versus import SHORT, versus
from hali._native import frames

SHAPES = [(1, 576), (16, 4096), (512, 8192)]  # a token of SmolLM2, a batch of an 8B model, a prefill chunk of a 70B one
TYPES = {
    "f32": frames.F32,
    "bf16": frames.BF16,
    "f16": frames.F16,
    "q8_0": frames.Q8_0,
    "int8+outliers": frames.INT8_OUTLIERS,
}
SESSION = bytes(range(16))


def hidden_states(rows: int, cols: int) -> Tensor:
    """Values as hidden states have them: most near 1, a few in the hundreds."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((rows, cols)) * 2
    values[rng.random((rows, cols)) < 0.001] *= 100
    return values.astype(np.float32)


def hali_way(values: Tensor, positions: Ints, sequences: Ints, dtype: int) -> Callable[[], memoryview[float]]:
    cols = values.shape[1]

    def work() -> memoryview[float]:
        data = frames.encode(
            frames.FORWARD,
            session=SESSION,
            step=7,
            layer_end=4,
            positions=positions,
            sequences=sequences,
            cols=cols,
            dtype=dtype,
            payload=values,
        )
        return frames.decode(data).to_f32()

    return work


def other_way(carrier: Carrier, values: Tensor, positions: Ints, sequences: Ints, dtype: int) -> Callable[[], Tensor]:
    rows, cols = values.shape
    fields: Fields = (1, frames.FORWARD, dtype, 0, 0, 7, SESSION, 0, 4, rows, cols, payload_size(dtype, rows, cols))

    def fill(body: npt.NDArray[np.uint8]) -> None:
        convert_into(body, values, dtype)

    def work() -> Tensor:
        data = carrier.write(fields, positions, sequences, fill)
        read, *ints, body = carrier.read(data)
        if len(body) != read[-1] or any(part.min() < 0 for part in ints):
            raise ValueError("not a message")
        return restore(body, read[2], read[9], read[10])

    return work


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", SHAPES[: 2 if SHORT else 3], ids=lambda shape: f"{shape[0]}×{shape[1]}")
def test_a_tensor_there_and_back(benchmark: BenchmarkFixture, shape: tuple[int, int], name: str) -> None:
    values = hidden_states(*shape)
    positions, sequences = np.arange(shape[0], dtype=np.int32), np.zeros(shape[0], np.int32)
    subject = hali_way(values, positions, sequences, TYPES[name])
    rivals = {
        title: other_way(carrier, values, positions, sequences, TYPES[name]) for title, carrier in CARRIERS.items()
    }
    expected = bytes(subject())
    for title, rival in rivals.items():
        assert rival().tobytes() == expected, f"{title} brings another tensor"
    versus(benchmark, "P8", f"{name} {shape[0]}×{shape[1]}", subject, rivals, size=values.nbytes)


@pytest.mark.parametrize("name", TYPES)
def test_numpy_writes_the_same_frame(name: str) -> None:
    values = hidden_states(3, 576)
    positions, dtype = np.arange(3, dtype=np.int32), TYPES[name]
    fields: Fields = (1, frames.FORWARD, dtype, 0, 0, 7, SESSION, 0, 4, 3, 576, payload_size(dtype, 3, 576))
    ours = frames.encode(
        frames.FORWARD,
        session=SESSION,
        step=7,
        layer_end=4,
        positions=positions,
        cols=576,
        dtype=dtype,
        payload=values,
    )
    theirs = CARRIERS["numpy"].write(
        fields, positions, np.zeros(3, np.int32), lambda body: convert_into(body, values, dtype)
    )
    assert bytes(theirs) == bytes(ours)  # type: ignore[call-overload]
