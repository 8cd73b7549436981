"""Damaged frames by the million: decode answers with a frame or a FrameError, never anything else.

What is accepted is read, widened to float32 and encoded again. Ten million of them; `HALI_LONG=1` runs thirty million on
two processes, from a new seed each time. A failure prints what makes it happen again.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import struct
from array import array
from collections import Counter

import pytest

from hali._native import frames
from tests.vectors.frames.again import encoded_again
from tests.vectors.frames.reference import EXAMPLES, Example, frame

LONG = bool(os.environ.get("HALI_LONG"))
SANITIZED = bool(os.environ.get("HALI_SANITIZED"))  # by ci/sanitize_frames
# Counts, so that each run does the same. An execution takes 4 to 6 µs: a minute on one core in CI.
ROUNDS = 30_000_000 if LONG else 200_000 if SANITIZED else 10_000_000
PROCESSES = 2 if LONG else 1
SEED = random.SystemRandom().getrandbits(32) if LONG else 1

TENSORS = (frames.F32, frames.BF16, frames.F16, frames.Q8_0, frames.INT8_OUTLIERS)
EXACT = (frames.F32, frames.BF16, frames.I32, frames.RAW)


def _shaped(dtype: int, rows: int, cols: int) -> Example:
    """A small tensor of its type; what is mutated most is the payload of these."""
    values = [(-1) ** at * (at % 23 + 0.25) for at in range(rows * cols)]
    return Example(frames.RESULT, dtype, values, cols=cols, positions=list(range(rows)), features=3)


SHAPES = [(dtype, rows, cols) for dtype in TENSORS for rows, cols in ((1, 32), (2, 64), (3, 0))]
SHAPES += [(dtype, 2, 9) for dtype in TENSORS if dtype != frames.Q8_0]
SEEDS = [bytes(frame(example)) for example in (*EXAMPLES.values(), *(_shaped(*shape) for shape in SHAPES))]

# offset and width of each field of the fixed header that is a length, a count or a type
FIELDS = [(4, 1), (5, 1), (6, 1), (8, 4), (36, 2), (38, 2), (40, 4), (44, 4), (48, 8), (56, 4), (60, 4)]
_NUMBERS = [*range(8), 63, 64, 65, 128, 255, 8192, 8193, 65535, 65536, 65537]
_NUMBERS += [1 << 28, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]
EDGES = [number.to_bytes(8, "little") for number in _NUMBERS]
# floats and halves at the ends of their ranges, bytes that q may not be
_FLOATS = (float("nan"), float("inf"), float("-inf"), 3.4e38, -3.4e38, 2.0**112, 2.0**113, 1e-40, -0.0)
POISON = [struct.pack("<f", value) for value in _FLOATS]
POISON += [b"\x00\x7c", b"\xff\xfb", b"\x80\x7f", b"\x7f\x7f", b"\x80", b"\xff\xff", b"\x00\x00", b"\x08\x00"]


def damaged(bits: int) -> bytearray:
    """One example with one kind of damage, as 64 random bits say."""
    data = bytearray(SEEDS[(bits & 0xFFFF) % len(SEEDS)])
    how, at = bits >> 16 & 15, (bits >> 20 & 0xFFFF) % len(data)
    more = bits >> 40
    if how < 4:  # flip a bit
        data[at] ^= 1 << (more & 7)
    elif how < 8:  # a number that is hardly one, without moving the rest
        poison = POISON[more % len(POISON)]
        at = max(at - at % len(poison), 0)
        if at + len(poison) <= len(data):
            data[at : at + len(poison)] = poison
    elif how < 12:  # an edge value in a field of the header
        at, width = FIELDS[at % len(FIELDS)]
        data[at : at + width] = EDGES[more % len(EDGES)][:width]
    elif how == 12:
        del data[at:]
    elif how == 13:
        data += SEEDS[more % len(SEEDS)][at % 64 :]
    else:  # other bytes, more or fewer
        data[at : at + (more & 7)] = more.to_bytes(4, "little")[: more >> 3 & 3]
    return data


def exact(data: bytearray) -> object:
    """The bytes in a buffer of exactly their size: one byte further is an error that a sanitizer sees."""
    return (ctypes.c_char * len(data)).from_buffer_copy(data)


def run_one(data: bytearray) -> str:
    """How a frame ends: the code of its refusal, or "read" after all of it was used."""
    buffer = exact(data) if SANITIZED else data
    try:
        length = frames.frame_length(buffer)  # type: ignore[arg-type]
        got = frames.decode(buffer)  # type: ignore[arg-type]
    except frames.FrameError as error:
        return error.code
    assert length == len(data)
    dtype = got.dtype
    if dtype > frames.INT8_OUTLIERS:
        assert encoded_again(got, got.payload) == data
        return "read"
    values = got.to_f32()
    assert len(values) == got.rows * got.cols
    try:
        again = encoded_again(got, values)
    except frames.FrameError as error:
        # a received scale may be larger than any that encode writes for the values it gives
        assert dtype in (frames.Q8_0, frames.INT8_OUTLIERS) and error.code == "not-finite"
        return "read"
    assert len(again) == len(data)
    assert dtype not in EXACT or again == data, "a frame must have one spelling only"
    return "read"


def run_many(work: tuple[int, int]) -> Counter[str]:
    """`rounds` executions from a seed; an AssertionError that names the bytes for whatever must not happen."""
    seed, rounds = work
    next_bits = random.Random(seed).getrandbits
    ends: Counter[str] = Counter()
    for _ in range(rounds):
        data = damaged(next_bits(64))
        try:
            ends[run_one(data)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r} for {data.hex()}") from error
    return ends


@pytest.mark.parametrize("example", SEEDS, ids=range(len(SEEDS)))
def test_an_undamaged_seed_is_read(example: bytes) -> None:
    assert run_one(bytearray(example)) == "read"


def test_damaged_frames_are_refused_or_read_within_their_bounds() -> None:
    work = [(SEED + number, ROUNDS // PROCESSES) for number in range(PROCESSES)]
    if PROCESSES == 1:
        ends = run_many(work[0])
    else:
        with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
            ends = sum(pool.map(run_many, work), Counter())
    assert ends.total() == ROUNDS
    assert ends["read"] > ROUNDS // 20, "the damage is so heavy that nothing behind the header is reached"
    assert {"truncated", "trailing", "magic", "length", "padding", "version", "kind", "dtype", "flags"} < set(ends)
    assert {"layers", "limit", "shape", "position", "sequence", "mask", "not-finite", "outliers"} < set(ends)


def test_every_cut_of_every_seed_is_truncated_in_a_buffer_of_its_size() -> None:
    for seed in SEEDS:
        for length in range(len(seed)):
            with pytest.raises(frames.FrameError) as caught:
                frames.decode(exact(bytearray(seed[:length])))  # type: ignore[arg-type]
            assert caught.value.code == "truncated"


@pytest.mark.parametrize("dtype", TENSORS)
@pytest.mark.parametrize("loops", frames._loop_names())  # type: ignore[attr-defined] # private: only tests choose
def test_conversions_stay_within_buffers_of_exactly_their_size(dtype: int, loops: str) -> None:
    frames._use_loops(loops)  # type: ignore[attr-defined]
    try:
        for rows in (1, 2, 3):
            for cols in range(0, 161, 32) if dtype == frames.Q8_0 else range(140):
                values = exact(bytearray(array("f", [at - 7.25 for at in range(rows * cols)]).tobytes()))
                arguments = {"session": bytes(16), "positions": range(rows), "cols": cols, "dtype": dtype}
                whole = frames.encode(frames.RESULT, payload=values, **arguments)  # type: ignore[arg-type]
                room = exact(whole)
                frames.encode_into(room, frames.RESULT, payload=values, **arguments)  # type: ignore[arg-type]
                floats = exact(bytearray(4 * rows * cols))
                frames.decode(room).to_f32(floats)  # type: ignore[arg-type]
                assert bytes(floats) == bytes(frames.decode(whole).to_f32())  # type: ignore[call-overload]
    finally:
        frames._use_loops(frames._loop_names()[-1])  # type: ignore[attr-defined]
