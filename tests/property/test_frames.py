"""hali._native.frames: what holds for every frame."""

from __future__ import annotations

import math
import struct
from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali._native import frames
from tests.vectors.frames.reference import Example, frame

F16_LIMIT = 3.401992698887923e38  # the last float below 65,520 × 2**112
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
BF16_FLOATS = st.floats(width=32, min_value=-3.3895313892515355e38, max_value=3.3895313892515355e38)
F16_FLOATS = st.floats(width=32, min_value=-F16_LIMIT, max_value=F16_LIMIT)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
COUNTS = st.integers(0, (1 << 31) - 1)
FLAGS = st.integers(0, frames.OPTIONAL_FLAGS).map(lambda bits: bits | (frames.FLAG_FINAL if bits & 1 else 0))


@st.composite
def examples(draw: st.DrawFn, dtypes: tuple[int, ...]) -> Example:
    """Any frame the format can say, up to 5 × 9."""
    dtype = draw(st.sampled_from(dtypes))
    rows, cols = draw(st.integers(0, 5)), draw(st.integers(0, 9))
    values: list[float] | list[int] | bytes
    if dtype == frames.RAW:
        values = draw(st.binary(max_size=200))
    else:
        items = {frames.I32: INT32, frames.BF16: BF16_FLOATS, frames.F16: F16_FLOATS}.get(dtype, FLOATS)
        values = draw(st.lists(items, min_size=rows * cols, max_size=rows * cols))
    start = draw(st.integers(0, 0xFFFF))
    return Example(
        kind=draw(st.integers(1, 8)),
        dtype=dtype,
        values=values,
        cols=cols,
        positions=draw(st.lists(COUNTS, min_size=rows, max_size=rows)),
        sequences=draw(st.lists(COUNTS, min_size=rows, max_size=rows)),
        outputs=bytes(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))),
        session=draw(st.binary(min_size=16, max_size=16)),
        step=draw(st.integers(0, 0xFFFFFFFF)),
        layers=(start, draw(st.integers(start, 0xFFFF))),
        flags=draw(FLAGS),
        features=draw(st.integers(0, 0xFFFFFFFF)),
        ext=draw(st.binary(max_size=80)),
    )


def again(got: frames.Frame) -> bytearray:
    """Encode what was decoded."""
    return frames.encode(
        got.kind,
        session=got.session,
        step=got.step,
        layer_start=got.layer_start,
        layer_end=got.layer_end,
        flags=got.flags,
        features=got.features,
        positions=got.positions,
        sequences=got.sequences,
        outputs=got.outputs,
        cols=got.cols,
        dtype=got.dtype,
        payload=got.payload if got.dtype in (frames.RAW, frames.I32) else got.to_f32(),
        ext=got.ext,
    )


def values_of(example: Example) -> bytes | array[int] | array[float]:
    if isinstance(example.values, bytes):
        return example.values
    return array("i" if example.dtype == frames.I32 else "f", example.values)


@given(examples((frames.F32, frames.BF16, frames.F16, frames.I32, frames.RAW)))
def test_the_compiled_codec_and_the_plain_one_write_the_same_bytes(example: Example) -> None:
    written = frames.encode(
        example.kind,
        session=example.session,
        step=example.step,
        layer_start=example.layers[0],
        layer_end=example.layers[1],
        flags=example.flags,
        features=example.features,
        positions=example.positions,
        sequences=example.sequences,
        outputs=example.outputs,
        cols=example.cols,
        dtype=example.dtype,
        payload=values_of(example),
        ext=example.ext,
    )
    assert bytes(written) == frame(example)
    assert frames.frame_length(written[:64]) == len(written)


@given(examples((frames.F32, frames.BF16, frames.I32, frames.RAW)))
def test_a_decoded_frame_is_encoded_to_the_same_bytes(example: Example) -> None:
    data = frame(example)
    assert bytes(again(frames.decode(data))) == data


@given(examples((frames.F16,)))
def test_halves_are_stable_after_the_first_rounding(example: Example) -> None:
    once = frames.decode(frame(example)).to_f32()
    twice = frames.decode(again(frames.decode(frame(example)))).to_f32()
    assert bytes(once) == bytes(twice)


@given(st.lists(F16_FLOATS, min_size=1, max_size=64))
def test_a_half_is_within_its_last_place_or_2_to_the_minus_38_of_the_rows_largest(values: list[float]) -> None:
    got = frames.decode(frame(Example(frames.RESULT, frames.F16, values, cols=len(values), positions=[0]))).to_f32()
    # the largest value lands in [2**14, 2**15), where the smallest subnormal step is 2**-24; a float has no step
    # below 2**-149
    step = max(abs(value) for value in values) * 2.0**-38
    for value, back in zip(values, got, strict=True):
        assert math.isclose(back, value, rel_tol=2.0**-11, abs_tol=max(step, 2.0**-149))


@given(st.lists(BF16_FLOATS, min_size=1, max_size=64))
def test_bf16_is_within_its_last_place(values: list[float]) -> None:
    got = frames.decode(frame(Example(frames.RESULT, frames.BF16, values, cols=len(values), positions=[0]))).to_f32()
    for value, back in zip(values, got, strict=True):
        assert math.isclose(back, value, rel_tol=2.0**-8, abs_tol=2.0**-134)


@given(examples((frames.F32, frames.BF16, frames.F16, frames.I32, frames.RAW)), st.data())
def test_a_shortened_frame_is_truncated_wherever_it_ends(example: Example, data: st.DataObject) -> None:
    whole = frame(example)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(frames.FrameError) as caught:
        frames.decode(whole[:cut])
    assert (caught.value.code, caught.value.retryable) == ("truncated", True)


@given(examples((frames.F32, frames.BF16, frames.I32, frames.RAW)), st.data())
def test_a_flipped_bit_is_refused_or_says_something_else_that_is_legal(example: Example, data: st.DataObject) -> None:
    damaged = bytearray(frame(example))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        got = frames.decode(damaged)
    except frames.FrameError:
        return
    if got.dtype != frames.F16:  # a half has several spellings: another scale, other bits
        assert again(got) == damaged, "a frame must have one spelling only"


@given(examples((frames.F32, frames.F16)), st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_no_number_hides_in_no_place_of_a_tensor(example: Example, poison: float, data: st.DataObject) -> None:
    assert not isinstance(example.values, bytes)
    whole = replace(example, cols=max(example.cols, 1), positions=[0], sequences=[0], outputs=b"\0")
    at = data.draw(st.integers(0, whole.cols - 1))
    values = array("f", [1.0] * whole.cols)
    values[at] = poison
    with pytest.raises(frames.FrameError) as caught:
        frames.encode(
            whole.kind, session=whole.session, positions=[0], cols=whole.cols, dtype=whole.dtype, payload=values
        )
    assert caught.value.code == "not-finite"
    received = frame(replace(whole, dtype=frames.RAW, values=struct.pack(f"<{whole.cols}f", *values)))
    with pytest.raises(frames.FrameError) as caught:
        frames.decode(received[:6] + bytes([frames.F32]) + received[7:])
    assert caught.value.code == "not-finite"
