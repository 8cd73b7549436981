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
from tests.vectors.frames.again import encoded_again
from tests.vectors.frames.reference import Example, frame

F16_LIMIT = 3.401992698887923e38  # the last float below 65,520 × 2**112
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
BF16_FLOATS = st.floats(width=32, min_value=-3.3895313892515355e38, max_value=3.3895313892515355e38)
F16_FLOATS = st.floats(width=32, min_value=-F16_LIMIT, max_value=F16_LIMIT)
Q8_0_LIMIT = 8321039.5  # the last float whose 127th part rounds to a finite half
Q8_0_FLOATS = st.floats(width=32, min_value=-Q8_0_LIMIT, max_value=Q8_0_LIMIT)
INT8_LIMIT = 3.4028232635611926e38  # the last float whose 127th part, times 127, is finite
INT8_FLOATS = st.floats(width=32, min_value=-INT8_LIMIT, max_value=INT8_LIMIT)
RANGES = {
    frames.BF16: BF16_FLOATS,
    frames.F16: F16_FLOATS,
    frames.Q8_0: Q8_0_FLOATS,
    frames.INT8_OUTLIERS: INT8_FLOATS,
}
EXACT = (frames.F32, frames.BF16, frames.I32, frames.RAW)
SCALED = (frames.F16, frames.Q8_0, frames.INT8_OUTLIERS)  # another scale, other bits: several spellings of a tensor
ALL = EXACT + SCALED
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
COUNTS = st.integers(0, (1 << 31) - 1)
FLAGS = st.integers(0, frames.OPTIONAL_FLAGS).map(lambda bits: bits | (frames.FLAG_FINAL if bits & 1 else 0))


@st.composite
def examples(draw: st.DrawFn, dtypes: tuple[int, ...]) -> Example:
    """Any frame the format can say, up to 5 × 11; q8_0 up to 2 × 64."""
    dtype = draw(st.sampled_from(dtypes))
    rows, cols = draw(st.integers(0, 5)), draw(st.integers(0, 11))
    if dtype == frames.Q8_0:
        rows, cols = rows % 3, cols % 3 * 32
    values: list[float] | list[int] | bytes
    if dtype == frames.RAW:
        values = draw(st.binary(max_size=200))
    else:
        items = INT32 if dtype == frames.I32 else RANGES.get(dtype, FLOATS)
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
    return encoded_again(got, got.payload if got.dtype in (frames.RAW, frames.I32) else got.to_f32())


def values_of(example: Example) -> bytes | array[int] | array[float]:
    if isinstance(example.values, bytes):
        return example.values
    return array("i" if example.dtype == frames.I32 else "f", example.values)


@given(examples(ALL))
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


@given(examples(EXACT))
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


@given(st.lists(Q8_0_FLOATS, min_size=32, max_size=32))
def test_q8_0_is_within_half_a_step_of_its_blocks_largest(values: list[float]) -> None:
    got = frames.decode(frame(Example(frames.RESULT, frames.Q8_0, values, cols=32, positions=[0]))).to_f32()
    # half a step, and 127 steps of an error of the scale's rounding: 2**-12 of it, or of the least half
    largest = max(abs(value) for value in values)
    bound = largest / 127 * (0.5 + 127 * 2.0**-11) + 127 * 2.0**-25
    assert all(abs(value - back) <= bound for value, back in zip(values, got, strict=True))


@given(st.lists(INT8_FLOATS, min_size=1, max_size=64))
def test_int8_keeps_the_eight_largest_and_the_rest_within_half_a_step(values: list[float]) -> None:
    data = frame(Example(frames.RESULT, frames.INT8_OUTLIERS, values, cols=len(values), positions=[0]))
    got = list(frames.decode(data).to_f32())
    by_size = sorted(range(len(values)), key=lambda column: (-abs(values[column]), column))
    assert [got[column] for column in by_size[:8]] == [values[column] for column in by_size[:8]]
    step = abs(values[by_size[8]]) / 127 if len(values) > 8 else 0.0
    # a scale of 2**-128 or less has no inverse: all of the rest is then below 2**-121, and written as zeros
    bound = max(step * (0.5 + 2.0**-14), 2.0**-121 if step <= 2.0**-128 else 0.0)
    assert all(abs(values[column] - got[column]) <= bound for column in by_size[8:])


@given(st.lists(BF16_FLOATS, min_size=1, max_size=64))
def test_bf16_is_within_its_last_place(values: list[float]) -> None:
    got = frames.decode(frame(Example(frames.RESULT, frames.BF16, values, cols=len(values), positions=[0]))).to_f32()
    for value, back in zip(values, got, strict=True):
        assert math.isclose(back, value, rel_tol=2.0**-8, abs_tol=2.0**-134)


@given(examples(ALL), st.data())
def test_a_shortened_frame_is_truncated_wherever_it_ends(example: Example, data: st.DataObject) -> None:
    whole = frame(example)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(frames.FrameError) as caught:
        frames.decode(whole[:cut])
    assert (caught.value.code, caught.value.retryable) == ("truncated", True)


@given(examples(ALL), st.data())
def test_a_flipped_bit_is_refused_or_says_something_else_that_is_legal(example: Example, data: st.DataObject) -> None:
    damaged = bytearray(frame(example))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        got = frames.decode(damaged)
    except frames.FrameError:
        return
    if got.dtype in EXACT:
        assert again(got) == damaged, "a frame must have one spelling only"
    else:
        assert all(map(math.isfinite, got.to_f32()))


@given(
    examples((frames.F32, frames.F16, frames.INT8_OUTLIERS)),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.data(),
)
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
