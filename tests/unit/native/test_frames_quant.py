"""hali._native.frames: q8_0 as ggml has it, int8 with outliers, and the same bits from every instruction set."""

from __future__ import annotations

import ctypes
import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hali._native import frames
from tests.vectors.frames.reference import INT8_OUTLIERS, Q8_0, Example, frame, payload

Tensor = npt.NDArray[np.float32]
SESSION = bytes(16)
TENSORS = [frames.F32, frames.BF16, frames.F16, frames.Q8_0, frames.INT8_OUTLIERS]


@pytest.fixture(params=frames._loop_names())  # type: ignore[attr-defined] # private: only tests choose
def loops(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this CPU has, in turn."""
    frames._use_loops(request.param)  # type: ignore[attr-defined]
    yield request.param
    frames._use_loops(frames._loop_names()[-1])  # type: ignore[attr-defined]


def encoded(values: Tensor, dtype: int) -> bytearray:
    rows, cols = values.shape
    return frames.encode(frames.RESULT, session=SESSION, positions=range(rows), cols=cols, dtype=dtype, payload=values)


def body(values: Tensor, dtype: int) -> bytes:
    return bytes(frames.decode(encoded(values, dtype)).payload)


def hidden_states(rows: int, cols: int, seed: int = 1) -> Tensor:
    """Most values near 1, a few large ones, all magnitudes from one row to another."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, cols)) * np.exp2(rng.integers(-20, 12, (rows, 1)))
    values[rng.random((rows, cols)) < 0.002] *= 500
    return values.astype(np.float32)


def awkward(cols: int) -> Tensor:
    """Rows of zeros, of equal values, of ties between two steps, of subnormals, and of all magnitudes at once."""
    rng = np.random.default_rng(2)
    rows = [
        np.zeros(cols),
        np.full(cols, -3.5),
        np.arange(cols) % 256 - 127.5,
        (np.arange(cols) % 255 - 127) * 0.5,
        rng.integers(-5, 6, cols),
        rng.standard_normal(cols) * 1e-40,
        rng.standard_normal(cols) * 2.0**-127,
        rng.standard_normal(cols) * np.exp2(rng.integers(-100, 20, cols)),
    ]
    return np.stack(rows).astype(np.float32)


def refusal(dtype: int, data: bytes, cols: int) -> str:
    with pytest.raises(frames.FrameError) as caught:
        frames.decode(frame(Example(frames.RESULT, dtype, data, cols=cols, positions=[0])))
    return caught.value.code


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """ggml itself, out of the package of llama-cpp-python, which is not imported for it."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None and spec.submodule_search_locations
    (library,) = Path(spec.submodule_search_locations[0]).glob("lib/libggml-base.so")
    return ctypes.CDLL(str(library))


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    "values", [hidden_states(64, 4096), awkward(4096), awkward(32)], ids=["states", "long", "short"]
)
def test_q8_0_is_ggml_bit_for_bit_in_both_directions(ggml: ctypes.CDLL, values: Tensor) -> None:
    blocks = ctypes.create_string_buffer(values.size // 32 * 34)
    ggml.quantize_row_q8_0_ref(values.ctypes.data_as(ctypes.c_void_p), blocks, ctypes.c_int64(values.size))
    assert body(values, Q8_0) == blocks.raw
    floats = np.empty_like(values)
    ggml.dequantize_row_q8_0(blocks, floats.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(values.size))
    assert bytes(frames.decode(encoded(values, Q8_0)).to_f32()) == floats.tobytes()


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("dtype", TENSORS)
@pytest.mark.parametrize("cols", [32, 64, 96, 544, 4096 + 32])
def test_every_instruction_set_writes_what_the_plain_reference_writes(dtype: int, cols: int) -> None:
    for values in (awkward(cols), hidden_states(3, cols)):
        positions = list(range(len(values)))
        plain = Example(frames.RESULT, dtype, values.ravel().tolist(), cols=cols, positions=positions)
        assert body(values, dtype) == payload(plain)


@pytest.mark.parametrize("dtype", TENSORS)
def test_every_instruction_set_reads_the_same_floats(dtype: int) -> None:
    data = encoded(awkward(672), dtype)
    read = set()
    for name in frames._loop_names():  # type: ignore[attr-defined]
        frames._use_loops(name)  # type: ignore[attr-defined]
        read.add(bytes(frames.decode(data).to_f32()))
    assert len(read) == 1


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("cols", [1, 7, 8, 9, 63, 64, 65, 129, 1000])
def test_rows_of_any_length_have_their_outliers(cols: int) -> None:
    values = hidden_states(5, cols, seed=cols)
    plain = Example(frames.RESULT, INT8_OUTLIERS, values.ravel().tolist(), cols=cols, positions=list(range(5)))
    assert body(values, INT8_OUTLIERS) == payload(plain)
    got = np.asarray(frames.decode(encoded(values, INT8_OUTLIERS)).to_f32()).reshape(values.shape)
    for row, back in zip(values, got, strict=True):
        largest = np.argsort(-np.abs(row), kind="stable")[:8]
        assert back[largest].tobytes() == row[largest].tobytes(), "outliers are exact"


@pytest.mark.usefixtures("loops")
def test_the_widest_row_has_an_outlier_in_its_last_column() -> None:
    values = np.zeros((1, frames.MAX_COLS), np.float32)
    values[0, -1] = 5
    assert np.asarray(frames.decode(encoded(values, INT8_OUTLIERS)).to_f32())[-1] == 5


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("dtype", TENSORS)
def test_no_number_hides_in_any_column(dtype: int) -> None:
    for column in range(96):
        values = np.ones((1, 96), np.float32)
        values[0, column] = np.nan
        with pytest.raises(frames.FrameError) as caught:
            encoded(values, dtype)
        assert caught.value.code == "not-finite"


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(("largest", "sent"), [(65519.996 * 127, True), (65520.0 * 127, False)])
def test_a_q8_0_scale_that_rounds_to_an_infinite_half_is_not_sent(largest: float, sent: bool) -> None:
    values = np.full((1, 32), largest, np.float32)
    if sent:
        assert body(values, Q8_0)[:2] == struct.pack("<e", 65504)
        return
    with pytest.raises(frames.FrameError) as caught:
        encoded(values, Q8_0)
    assert caught.value.code == "not-finite"


@pytest.mark.usefixtures("loops")
def test_an_int8_scale_that_gives_infinite_products_is_not_sent() -> None:
    values = np.full((1, 9), np.finfo(np.float32).max)
    with pytest.raises(frames.FrameError) as caught:
        encoded(values, INT8_OUTLIERS)
    assert caught.value.code == "not-finite"
    assert np.isfinite(np.asarray(frames.decode(encoded(values[:, :8], INT8_OUTLIERS)).to_f32())).all()


@pytest.mark.parametrize("scale", [0x7C00, 0xFC00, 0x7E00])
@pytest.mark.parametrize("block", [0, 2])
def test_a_received_q8_0_scale_that_is_no_number_is_refused(scale: int, block: int) -> None:
    data = bytearray(3 * 34)
    struct.pack_into("<H", data, 34 * block, scale)
    assert refusal(Q8_0, bytes(data), 96) == "not-finite"


ROW = struct.pack("<f8f8H10b", 1.0, *range(1, 9), *range(1, 9), 5, *[0] * 8, -127)


def row_with(at: int, data: bytes) -> bytes:
    return ROW[:at] + data + ROW[at + len(data) :]


def test_a_row_of_int8_is_read_as_it_is_laid_out() -> None:
    got = frames.decode(frame(Example(frames.RESULT, INT8_OUTLIERS, ROW, cols=10, positions=[0])))
    assert list(got.to_f32()) == [5, 1, 2, 3, 4, 5, 6, 7, 8, -127]


@pytest.mark.parametrize(
    ("at", "data", "code"),
    [
        (0, struct.pack("<f", -1.0), "not-finite"),
        (0, struct.pack("<f", -0.0), "not-finite"),
        (0, struct.pack("<f", float("nan")), "not-finite"),
        (0, struct.pack("<f", float("inf")), "not-finite"),
        (0, struct.pack("<f", 3e36), "not-finite"),
        (0, struct.pack("<f", 1e-40), "not-finite"),
        (4, struct.pack("<f", float("nan")), "not-finite"),
        (32, struct.pack("<f", float("-inf")), "not-finite"),
        (36, struct.pack("<H", 2), "outliers"),
        (36, struct.pack("<H", 3), "outliers"),
        (50, struct.pack("<H", 10), "outliers"),
        (50, struct.pack("<H", 0xFFFF), "outliers"),
        (50, struct.pack("<H", 9), "outliers"),
        (53, b"\1", "outliers"),
        (52, b"\x80", "outliers"),
        (61, b"\x80", "outliers"),
    ],
)
def test_a_damaged_row_of_int8_is_refused_by_its_name(at: int, data: bytes, code: str) -> None:
    assert refusal(INT8_OUTLIERS, row_with(at, data), 10) == code


@pytest.mark.usefixtures("loops")
def test_columns_that_change_after_the_check_write_nowhere_else() -> None:
    data = bytearray(frame(Example(frames.RESULT, INT8_OUTLIERS, ROW, cols=10, positions=[0])))
    got = frames.decode(data)
    data[-len(ROW) + 36 : -len(ROW) + 52] = b"\xff" * 16
    into = bytearray(b"\xaa" * (1 << 19))
    got.to_f32(into)
    assert into[40:] == b"\xaa" * ((1 << 19) - 40)


@pytest.mark.parametrize("dtype", TENSORS)
@pytest.mark.parametrize("spare", [0, 5])
def test_encode_into_writes_the_same_bytes_and_says_how_many(dtype: int, spare: int) -> None:
    values = hidden_states(2, 64)
    whole = encoded(values, dtype)
    room = bytearray(b"\xaa" * (len(whole) + spare))
    arguments = {"session": SESSION, "positions": [0, 1], "cols": 64, "dtype": dtype, "payload": values}
    assert frames.encode_into(room, frames.RESULT, **arguments) == len(whole)
    assert room == whole + b"\xaa" * spare
    with pytest.raises(frames.FrameError) as caught:
        frames.encode_into(memoryview(room)[: len(whole) - 1], frames.RESULT, **arguments)
    assert caught.value.code == "limit"


def test_encode_into_wants_a_buffer_that_can_be_written() -> None:
    with pytest.raises(BufferError):
        frames.encode_into(bytes(200), frames.ACK, session=SESSION)
    with pytest.raises(TypeError, match="None"):
        frames.encode_into(None, frames.ACK, session=SESSION)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", TENSORS)
def test_to_f32_fills_the_callers_buffer(dtype: int) -> None:
    got = frames.decode(encoded(hidden_states(2, 64), dtype))
    into = np.full(130, 7, np.float32)
    back = got.to_f32(into)
    assert np.shares_memory(np.asarray(back), into) and len(back) == 128
    assert bytes(back) == bytes(got.to_f32())
    assert into[128:].tolist() == [7, 7]
    with pytest.raises(frames.FrameError) as caught:
        got.to_f32(into[:127])
    assert caught.value.code == "limit"


def test_parts_of_a_received_frame_cannot_be_written() -> None:
    got = frames.decode(encoded(hidden_states(2, 64), frames.F32))
    for part in (got.ext, got.positions, got.sequences, got.outputs, got.payload):
        assert part.readonly and part.c_contiguous
        with pytest.raises(TypeError, match="read-only"):
            part[:1] = part[:1]
    assert (got.payload.format, got.positions.format, got.outputs.format) == ("f", "i", "B")
