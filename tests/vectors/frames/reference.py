"""HLF1 written again in plain Python, from the description of the format, and the examples beside this file.

`python -m tests.vectors.frames.reference` writes the .bin files anew: only for a new version of the format.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent

FORWARD, RESULT, TOKEN, ERROR, ACK, CANCEL, RELEASE, KV = range(1, 9)
F32, BF16, F16, Q8_0, INT8_OUTLIERS, I32, RAW = range(7)


@dataclass(frozen=True)
class Example:
    """What a frame says; ``values`` are numbers for tensors and i32, bytes for raw."""

    kind: int
    dtype: int = RAW
    values: list[float] | list[int] | bytes = b""
    cols: int = 0
    positions: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    outputs: bytes = b""
    session: bytes = bytes(range(16))
    step: int = 0
    layers: tuple[int, int] = (0, 0)
    flags: int = 0
    features: int = 0
    ext: bytes = b""


def padded(data: bytes, multiple: int) -> bytes:
    """Zeros up to the next multiple."""
    return data + bytes(-len(data) % multiple)


def bf16(value: float) -> bytes:
    """The upper half of the float, rounded to nearest, ties to even."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return struct.pack("<H", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def row_scale(row: list[float]) -> float:
    """The power of two that puts the largest value into [2**14, 2**15), but within 2**-126 and 2**112."""
    largest = max((abs(value) for value in row), default=0.0)
    return 2.0 ** min(max(math.frexp(largest)[1] - 15, -126), 112) if largest else 1.0


def f32(value: float) -> float:
    """The nearest float. All that follows computes in doubles, which rounds a product or quotient of floats once."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def steps(value: float, scale: float) -> int:
    """The value in steps of the scale, halves away from zero; 0 if the scale has no inverse."""
    inverse = f32(1 / scale) if scale else math.inf
    if math.isinf(inverse):
        return 0
    count = math.floor(abs(f32(value * inverse)) + 0.5)
    return count if value > 0 else -count


def q8_0(block: list[float]) -> bytes:
    """Scale and 32 steps, as ggml's quantize_row_q8_0_ref."""
    scale = f32(max(abs(value) for value in block) / 127)
    return struct.pack("<e32b", scale, *(steps(value, scale) for value in block))


def int8_outliers(rows: list[list[float]]) -> bytes:
    """Scales, outlier values, outlier columns, steps."""
    scales, values, columns, quanta = b"", b"", b"", b""
    for row in rows:
        by_size = sorted(range(len(row)), key=lambda column: (-abs(row[column]), column))
        outliers, rest = sorted(by_size[:8]), by_size[8:]
        scale = f32(abs(row[rest[0]]) / 127) if rest else 0.0
        if scale and math.isinf(f32(1 / scale)):
            scale = 0.0
        scales += struct.pack("<f", scale)
        values += struct.pack(f"<{len(outliers)}f", *(row[column] for column in outliers))
        columns += struct.pack(f"<{len(outliers)}H", *outliers)
        kept = [0 if column in outliers else steps(value, scale) for column, value in enumerate(row)]
        quanta += struct.pack(f"<{len(row)}b", *kept)
    return scales + values + columns + quanta


def payload(example: Example) -> bytes:
    """The payload bytes of an example."""
    values = example.values
    if isinstance(values, bytes):
        return values
    if example.dtype == I32:
        return struct.pack(f"<{len(values)}i", *values)
    if example.dtype == F32:
        return struct.pack(f"<{len(values)}f", *values)
    if example.dtype == BF16:
        return b"".join(bf16(value) for value in values)
    if example.dtype == Q8_0:
        return b"".join(q8_0(list(values[at : at + 32])) for at in range(0, len(values), 32))
    cols = example.cols
    rows = [list(values[row * cols : (row + 1) * cols]) for row in range(len(example.positions))]
    if example.dtype == INT8_OUTLIERS:
        return int8_outliers(rows)
    scales = [row_scale(row) for row in rows]
    halves = [struct.pack("<e", value / scale) for row, scale in zip(rows, scales, strict=True) for value in row]
    return struct.pack(f"<{len(scales)}f", *scales) + b"".join(halves)


def frame(example: Example) -> bytes:
    """The whole frame."""
    rows = len(example.positions)
    tail = padded(example.ext, 4)
    tail += struct.pack(f"<{rows}i", *example.positions)
    tail += struct.pack(f"<{rows}i", *(example.sequences or [0] * rows))
    tail += example.outputs or bytes(rows)
    header_length = len(padded(bytes(64) + tail, 64))
    body = payload(example)
    fixed = struct.pack(
        "<4sBBBBII16sIHHIIQII",
        *(b"HLF1", 1, example.kind, example.dtype, 0, example.flags, example.features, example.session),
        *(example.step, *example.layers, rows, example.cols, len(body), header_length, len(example.ext)),
    )
    return padded(fixed + tail, 64) + body


EXAMPLES = {
    "forward_tokens": Example(
        FORWARD,
        I32,
        [1, 504, 49151],
        cols=1,
        positions=[0, 1, 2],
        sequences=[0, 0, 0],
        outputs=b"\0\0\1",
        layers=(0, 15),
    ),
    "forward_f32": Example(
        FORWARD,
        F32,
        [0.0, -0.0, 1.5, -23674.0, 1e-45, 3.4028234663852886e38],
        cols=3,
        positions=[17, 4],
        sequences=[2, 5],
        outputs=b"\1\0",
        step=7,
        layers=(15, 30),
        features=5,
    ),
    # ties in both directions, the subnormals, the largest value that does not round up to infinity
    "result_bf16": Example(
        RESULT,
        BF16,
        [1.00390625, 1.01171875, -1e-40, 3.3895313892515355e38],
        cols=4,
        positions=[9],
        step=3,
        layers=(0, 8),
    ),
    # a row of zeros, one with a large range, one of subnormal floats
    "result_f16": Example(
        RESULT, F16, [0.0, -0.0, 23674.0, 1.0001, 1e-40, -3e-42], cols=2, positions=[0, 1, 2], layers=(8, 30)
    ),
    # ties away from zero in both directions, a block of zeros, one whose scale is a subnormal half, and one whose scale
    # is zero as a half
    "result_q8_0": Example(
        RESULT,
        Q8_0,
        [127.0, 0.5, -0.5, 1.5, -2.5, 126.49, *[-3.0] * 26]
        + [0.0, -0.0] * 16
        + [2e-5, -1e-5, *[3e-6] * 30]
        + [1e-40, -1e-42, *[5e-8] * 30],
        cols=64,
        positions=[5, 6],
        sequences=[1, 0],
        outputs=b"\1\0",
        layers=(0, 8),
        features=1,
    ),
    # equal sizes around the eighth place, one row with nothing but outliers beside zeros, one of subnormal floats
    "result_int8": Example(
        RESULT,
        INT8_OUTLIERS,
        [
            *(9.0, -7.0, 7.0, -7.0, 7.0, 7.0, 23674.0, -7.0, 7.0, -7.0, 3.5, -0.25),
            *(0.0, 1.0, 2.0, 3.0, 4.0, 0.0, -5.0, -6.0, -7.0, -8.0, 0.0, -0.0),
            *(1e-40, 2e-40, 3e-40, 4e-40, 5e-40, 6e-40, 7e-40, 8e-40, 9e-40, 1e-41, 2e-41, -3e-41),
        ],
        cols=12,
        positions=[0, 1, 2],
        layers=(8, 30),
        features=2,
    ),
    "token_final": Example(
        TOKEN, I32, [2], cols=1, positions=[31], step=32, flags=1 << 16, ext=b"\x81\xa6finish\xa4stop"
    ),
    "kv": Example(KV, RAW, bytes(range(256)) + b"!", positions=[0, 1], cols=64, layers=(0, 15), ext=b"\xc0"),
    "error": Example(ERROR, ext=b"\x82\xa4code\xa8overload\xa5retry\xc3", flags=0x0000_8001),
    "cancel": Example(CANCEL, step=0xFFFF_FFFF, features=0xFFFF_FFFF, layers=(0xFFFF, 0xFFFF)),
}


if __name__ == "__main__":
    for name, example in EXAMPLES.items():
        (FOLDER / f"{name}.bin").write_bytes(frame(example))
