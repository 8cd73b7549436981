"""hali._native.frames: the stored examples, and every refusal by name."""

from __future__ import annotations

import ctypes
import math
import pickle
import struct
from array import array

import numpy as np
import pytest

from hali._native import frames
from tests.vectors.frames.reference import EXAMPLES, FOLDER, Example, frame

SESSION = bytes(range(16))


def encoded(example: Example) -> bytearray:
    """What encode makes of an example."""
    letter = "i" if example.dtype == frames.I32 else "f"
    values = example.values if isinstance(example.values, bytes) else array(letter, example.values)
    return frames.encode(
        example.kind,
        session=example.session,
        step=example.step,
        layer_start=example.layers[0],
        layer_end=example.layers[1],
        flags=example.flags,
        features=example.features,
        positions=example.positions,
        sequences=example.sequences or None,
        outputs=example.outputs or None,
        cols=example.cols,
        dtype=example.dtype,
        payload=values,
        ext=example.ext,
    )


def small() -> bytearray:
    """Two rows of three floats, with an extension of 5 bytes: every part of a frame is there."""
    return frames.encode(
        frames.FORWARD,
        session=SESSION,
        layer_end=4,
        positions=[3, 4],
        outputs=b"\0\1",
        cols=3,
        dtype=frames.F32,
        payload=array("f", [1, 2, 3, 4, 5, 6]),
        ext=b"hello",
    )


def refusal(data: bytes | bytearray) -> str:
    """The code with which decode refuses."""
    with pytest.raises(frames.FrameError) as caught:
        frames.decode(data)
    return caught.value.code


def changed(at: int, data: bytes) -> bytearray:
    """The small frame with other bytes at an offset."""
    frame = small()
    frame[at : at + len(data)] = data
    return frame


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_encoded_to_the_stored_bytes(name: str) -> None:
    stored = (FOLDER / f"{name}.bin").read_bytes()
    assert frame(EXAMPLES[name]) == stored, "the reference in plain Python no longer writes this file"
    assert bytes(encoded(EXAMPLES[name])) == stored


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_stored_example_is_decoded_to_what_it_says(name: str) -> None:
    example = EXAMPLES[name]
    got = frames.decode((FOLDER / f"{name}.bin").read_bytes())
    rows = len(example.positions)
    assert (got.version, got.kind, got.dtype, got.flags, got.features) == (
        *(1, example.kind, example.dtype),
        *(example.flags, example.features),
    )
    assert (got.session, got.step, got.rows, got.cols) == (example.session, example.step, rows, example.cols)
    assert (got.layer_start, got.layer_end) == example.layers
    assert list(got.positions) == example.positions
    assert list(got.sequences) == (example.sequences or [0] * rows)
    assert bytes(got.outputs) == (example.outputs or bytes(rows))
    assert bytes(got.ext) == example.ext
    if example.dtype in (frames.RAW, frames.I32):
        assert got.payload.tolist() == list(example.values)


def test_floats_come_back_bit_for_bit() -> None:
    values = EXAMPLES["forward_f32"].values
    got = frames.decode(frame(EXAMPLES["forward_f32"]))
    assert bytes(got.to_f32()) == struct.pack("<6f", *values)


def test_bf16_rounds_ties_to_even() -> None:
    got = frames.decode(frame(EXAMPLES["result_bf16"])).to_f32()
    assert list(got)[:2] == [1.0, 1.015625]


def test_halves_keep_a_large_and_a_tiny_row_apart() -> None:
    got = list(frames.decode(frame(EXAMPLES["result_f16"])).to_f32())
    assert got[:2] == [0.0, 0.0]
    assert got[2] == pytest.approx(23674.0, rel=2**-11)
    assert got[3] == pytest.approx(1.0001, rel=2**-11)
    assert got[4] == pytest.approx(1e-40, rel=1e-3), "a row of subnormal floats keeps its values"


def test_the_payload_is_a_view_of_the_received_bytes() -> None:
    data = small()
    got = frames.decode(data)
    data[-4:] = struct.pack("<f", 60.0)
    assert list(got.payload) == [1, 2, 3, 4, 5, 60]
    assert got.payload.readonly
    with pytest.raises(BufferError):
        data.append(0)


def test_the_payload_starts_at_a_multiple_of_64_bytes() -> None:
    for length in range(70):
        data = frames.encode(frames.KV, session=SESSION, positions=range(length % 5), payload=b"x", ext=bytes(length))
        assert len(data) % 64 == 1


def test_every_shorter_frame_is_truncated_and_every_longer_one_has_a_tail() -> None:
    data = small()
    assert {refusal(data[:length]) for length in range(len(data))} == {"truncated"}
    assert refusal(data + b"\0") == "trailing"


@pytest.mark.parametrize(
    ("at", "data", "code"),
    [
        (0, b"G", "magic"),
        (4, b"\2", "version"),
        (5, b"\0", "kind"),
        (5, b"\x09", "kind"),
        (6, b"\x07", "dtype"),
        (6, bytes([frames.Q8_0]), "shape"),
        (6, bytes([frames.INT8_OUTLIERS]), "shape"),
        (6, bytes([frames.BF16]), "shape"),
        (7, b"\1", "padding"),
        (10, b"\2", "flags"),
        (36, struct.pack("<HH", 5, 4), "layers"),
        (40, struct.pack("<I", 8193), "limit"),
        (40, struct.pack("<I", 30), "length"),
        (40, struct.pack("<I", 3), "shape"),
        (44, struct.pack("<I", 65537), "limit"),
        (44, struct.pack("<I", 4), "shape"),
        (48, struct.pack("<Q", 25), "shape"),
        (48, struct.pack("<Q", (1 << 28) + 1), "limit"),
        (48, b"\xff" * 8, "limit"),
        (56, struct.pack("<I", 192), "length"),
        (60, struct.pack("<I", 65537), "limit"),
        (60, struct.pack("<I", 60), "length"),
        (60, struct.pack("<I", 4), "padding"),
        (69, b"\1", "padding"),
        (72, struct.pack("<i", -1), "position"),
        (80, struct.pack("<i", -1), "sequence"),
        (88, b"\2", "mask"),
        (127, b"\1", "padding"),
        (128, struct.pack("<f", float("nan")), "not-finite"),
        (148, struct.pack("<f", float("-inf")), "not-finite"),
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused_by_its_name(at: int, data: bytes, code: str) -> None:
    assert refusal(changed(at, data)) == code


def test_the_formats_own_limits_cannot_be_raised_by_a_caller() -> None:
    with pytest.raises(frames.FrameError, match="at most 65536"):
        frames.decode(changed(44, struct.pack("<I", 65537)), max_cols=1 << 20)


def test_each_feature_is_one_bit_and_unknown_ones_are_ignored() -> None:
    assert frames.FEATURES == frames.FEATURE_Q8_0 + frames.FEATURE_INT8_OUTLIERS
    assert frames.FEATURE_Q8_0 & frames.FEATURE_INT8_OUTLIERS == 0
    assert frames.decode(changed(12, b"\xff" * 4)).features == 0xFFFFFFFF


def test_unknown_optional_flags_are_skipped() -> None:
    assert frames.decode(changed(8, b"\xff\xff")).flags == 0xFFFF


@pytest.mark.parametrize("flag", [1 << bit for bit in range(17, 32)])
def test_each_unknown_required_flag_is_refused_on_both_sides(flag: int) -> None:
    assert refusal(changed(8, struct.pack("<I", flag))) == "flags"
    with pytest.raises(frames.FrameError, match="required"):
        frames.encode(frames.ACK, session=SESSION, flags=flag)


def test_only_damage_is_worth_another_attempt() -> None:
    retryable = {
        code: frames.FrameError(code, "").retryable for code in ("truncated", "magic", "length", "version", "limit")
    }
    assert retryable == {"truncated": True, "magic": True, "length": True, "version": False, "limit": False}


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(frames.FrameError("limit", "too much")))  # noqa: S301 (our own bytes)
    assert (error.code, error.retryable, str(error)) == ("limit", False, "too much")


def test_the_length_is_known_from_the_fixed_header_alone() -> None:
    data = small()
    assert [frames.frame_length(data[:count]) for count in (0, 1, 63)] == [None, None, None]
    assert frames.frame_length(data[:64]) == len(data)
    assert frames.frame_length(data + b"next frame") == len(data)


def test_a_stream_that_is_no_frame_is_noticed_at_its_first_byte() -> None:
    with pytest.raises(frames.FrameError) as caught:
        frames.frame_length(b"G")
    assert caught.value.code == "magic"


@pytest.mark.parametrize("limit", [{"max_rows": 1}, {"max_cols": 2}, {"max_payload": 23}])
def test_the_callers_own_limits_hold_before_the_frame_is_there(limit: dict[str, int]) -> None:
    for check in (frames.frame_length, frames.decode):
        with pytest.raises(frames.FrameError) as caught:
            check(small(), **limit)
        assert caught.value.code == "limit"


@pytest.mark.parametrize("dtype", [frames.F32, frames.BF16, frames.F16, frames.Q8_0, frames.INT8_OUTLIERS])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_tensor_with_a_value_that_is_no_number_is_not_sent(dtype: int, value: float) -> None:
    tensor = array("f", [0.0] * 96)
    tensor[95] = value
    with pytest.raises(frames.FrameError) as caught:
        frames.encode(frames.FORWARD, session=SESSION, positions=[0], cols=96, dtype=dtype, payload=tensor)
    assert caught.value.code == "not-finite"


@pytest.mark.parametrize("dtype", [frames.BF16, frames.F16])
def test_a_float_that_would_be_rounded_to_infinity_is_not_sent(dtype: int) -> None:
    largest = array("f", [3.4028e38])
    with pytest.raises(frames.FrameError) as caught:
        frames.encode(frames.FORWARD, session=SESSION, positions=[0], cols=1, dtype=dtype, payload=largest)
    assert caught.value.code == "not-finite"


@pytest.mark.parametrize(
    ("dtype", "payload"),
    [
        (frames.BF16, struct.pack("<H", 0x7F80)),
        (frames.BF16, struct.pack("<H", 0xFFC1)),
        (frames.F16, struct.pack("<fH", 1.0, 0x7C00)),
        (frames.F16, struct.pack("<fH", float("inf"), 0)),
        (frames.F16, struct.pack("<fH", float("nan"), 0)),
        (frames.F16, struct.pack("<fH", 0.0, 0)),
        (frames.F16, struct.pack("<fH", -1.0, 0)),
        (frames.F16, struct.pack("<fH", 2.0**113, 0)),
    ],
)
def test_a_received_half_that_is_no_number_is_refused(dtype: int, payload: bytes) -> None:
    data = frame(Example(frames.RESULT, dtype, payload, cols=1, positions=[0]))
    assert refusal(data) == "not-finite"


def test_every_finite_half_is_converted_as_struct_does() -> None:
    halves = [bits for bits in range(65536) if bits & 0x7C00 != 0x7C00]
    payload = struct.pack(f"<f{len(halves)}H", 1.0, *halves)
    got = frames.decode(frame(Example(frames.RESULT, frames.F16, payload, cols=len(halves), positions=[0])))
    assert bytes(got.to_f32()) == struct.pack(
        f"<{len(halves)}f", *struct.unpack(f"<{len(halves)}e", struct.pack(f"<{len(halves)}H", *halves))
    )


@pytest.mark.parametrize(
    "tensor",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        (ctypes.c_float * 6)(*range(6)),
        array("f", range(6)),
        memoryview(struct.pack("<6f", *range(6))),
        memoryview(array("f", range(6))).cast("B").cast("f", (2, 3)),
    ],
    ids=["numpy", "ctypes", "array", "bytes", "memoryview"],
)
def test_any_contiguous_buffer_of_floats_is_taken(tensor: bytes) -> None:
    data = frames.encode(frames.FORWARD, session=SESSION, positions=[0, 1], cols=3, dtype=frames.F32, payload=tensor)
    assert list(frames.decode(data).payload) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("positions", [[5, 6], (5, 6), range(5, 7), array("i", [5, 6]), np.array([5, 6], np.int32)])
def test_positions_may_be_a_sequence_or_an_int32_buffer(positions: list[int]) -> None:
    data = frames.encode(frames.ACK, session=SESSION, positions=positions)
    assert list(frames.decode(data).positions) == [5, 6]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"positions": np.array([5, 6], np.int64)}, TypeError),
        ({"positions": ["a"]}, TypeError),
        ({"positions": [0], "cols": 1, "dtype": frames.F32, "payload": array("d", [1.0])}, TypeError),
        ({"positions": [0], "cols": 1, "dtype": frames.F32, "payload": array("i", [1])}, TypeError),
        ({"positions": [0], "cols": 1, "dtype": frames.I32, "payload": array("f", [1])}, TypeError),
        ({"positions": [0], "cols": 2, "dtype": frames.F32, "payload": np.ones(4, np.float32)[::2]}, ValueError),
        ({"session": "0123456789abcdef"}, TypeError),
        ({"step": 1.5}, TypeError),
    ],
)
def test_a_buffer_of_another_kind_is_a_mistake_of_the_caller(
    arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        frames.encode(frames.FORWARD, **{"session": SESSION, **arguments})  # type: ignore[arg-type]
    assert not isinstance(caught.value, frames.FrameError)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"session": bytes(15)}, "limit"),
        ({"step": -1}, "limit"),
        ({"step": 1 << 32}, "limit"),
        ({"layer_end": 1 << 16}, "limit"),
        ({"layer_start": 2, "layer_end": 1}, "layers"),
        ({"positions": range(8193)}, "limit"),
        ({"positions": [-1]}, "position"),
        ({"positions": [1 << 31]}, "position"),
        ({"positions": [0], "sequences": [-1]}, "sequence"),
        ({"positions": [0], "sequences": [0, 0]}, "shape"),
        ({"positions": [0], "outputs": b""}, "shape"),
        ({"positions": [0], "outputs": b"\2"}, "mask"),
        ({"positions": [0], "cols": 2, "dtype": frames.F32, "payload": array("f", [1])}, "shape"),
        ({"cols": 65537}, "limit"),
        ({"ext": bytes(65537)}, "limit"),
        ({"dtype": 7}, "dtype"),
        ({"dtype": 256}, "limit"),
        ({"positions": [0], "cols": 31, "dtype": frames.Q8_0, "payload": bytes(4 * 31)}, "shape"),
        ({"positions": [0], "cols": 33, "dtype": frames.INT8_OUTLIERS, "payload": bytes(4 * 32)}, "shape"),
        ({"payload": bytearray((1 << 28) + 1)}, "limit"),
    ],
)
def test_what_a_receiver_would_refuse_is_not_sent(arguments: dict[str, object], code: str) -> None:
    with pytest.raises(frames.FrameError) as caught:
        frames.encode(frames.FORWARD, **{"session": SESSION, **arguments})  # type: ignore[arg-type]
    assert caught.value.code == code


def test_a_frame_without_a_tensor_has_no_floats() -> None:
    with pytest.raises(frames.FrameError) as caught:
        frames.decode(frames.encode(frames.KV, session=SESSION, payload=b"bytes")).to_f32()
    assert caught.value.code == "unsupported-dtype"


def test_a_frame_cannot_be_made_by_hand_or_pickled() -> None:
    with pytest.raises(TypeError, match="decode"):
        frames.Frame()
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(frames.decode(small()))


def test_every_kind_and_type_has_a_name() -> None:
    assert sorted(frames.KIND_NAMES) == list(range(1, 9))
    assert sorted(frames.DTYPE_NAMES) == list(range(7))
    assert repr(frames.decode(small())) == "<Frame forward session=00010203 step=0 layers=[0, 4) 2×3 f32>"


@pytest.mark.parametrize("at", [0, 523_263, 523_264, 524_288, 1_048_703])
def test_a_tensor_large_enough_for_two_cores_is_whole_and_no_number_hides_in_either_half(at: int) -> None:
    rows, cols = 128, 8193
    values = array("f", [1.5]) * (rows * cols)
    values[at] = -2.25
    positions = range(rows)
    data = frames.encode(
        frames.FORWARD, session=bytes(16), positions=positions, cols=cols, dtype=frames.F32, payload=values
    )
    assert frames.decode(data).to_f32().tobytes() == values.tobytes()
    values[at] = math.nan
    with pytest.raises(frames.FrameError) as caught:
        frames.encode(
            frames.FORWARD, session=bytes(16), positions=positions, cols=cols, dtype=frames.F32, payload=values
        )
    assert caught.value.code == "not-finite"
    start = len(data) - 4 * rows * cols + 4 * at
    data[start : start + 4] = struct.pack("<f", math.inf)
    with pytest.raises(frames.FrameError) as caught:
        frames.decode(data)
    assert caught.value.code == "not-finite"
