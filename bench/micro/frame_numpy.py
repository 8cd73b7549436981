"""What NumPy and ml_dtypes make of a tensor: the same payload bytes as hali's, by the fastest formulations found.

Tried and slower on the machine this was written on: isfinite().all() and min/max for the check, bit operations for
bf16, blocks of rows that fit the cache, gguf's quantiser (NumPy inside; its own roundings are more passes than these).
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hali._native import frames

Tensor = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

LEAST_SCALE = np.float32(2.0**-128)


def check(values: Tensor) -> None:
    """ValueError for NaN and infinity. One pass of BLAS at memory speed; a sum too large for a float is looked into."""
    flat = values.reshape(-1)
    if not np.isfinite(np.dot(flat, flat)) and not np.isfinite(values).all():
        raise ValueError("not finite")


def payload_size(dtype: int, rows: int, cols: int) -> int:
    """Bytes of the payload."""
    return {
        frames.F32: 4 * rows * cols,
        frames.BF16: 2 * rows * cols,
        frames.F16: 4 * rows + 2 * rows * cols,
        frames.Q8_0: rows * cols // 32 * 34,
        frames.INT8_OUTLIERS: rows * (4 + 8 * 6 + cols),
    }[dtype]


def rounded(values: Tensor) -> npt.NDArray[np.int8]:
    """C's roundf, in place: halves away from zero."""
    values += np.copysign(np.float32(0.49999997), values)
    return values.astype(np.int8)


def q8_0_into(out: Bytes, values: Tensor) -> None:
    blocks = values.reshape(-1, 32)
    scales = np.abs(blocks).max(axis=1, keepdims=True)
    scales /= np.float32(127)
    halves = scales.astype(np.float16)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > LEAST_SCALE)
    check(values)
    whole = out.reshape(-1, 34)
    whole[:, :2] = halves.view(np.uint8)
    whole[:, 2:] = rounded(blocks * inverse).view(np.uint8)


def q8_0_from(body: Bytes, rows: int, cols: int) -> Tensor:
    blocks = body.reshape(-1, 34)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    check(scales)
    values = blocks[:, 2:].view(np.int8).astype(np.float32)
    values *= scales
    return values.reshape(rows, cols)


def int8_parts(
    body: Bytes, rows: int, cols: int
) -> tuple[Tensor, Tensor, npt.NDArray[np.uint16], npt.NDArray[np.int8]]:
    """Scales, outlier values, outlier columns and steps as views of the payload."""
    ends = np.cumsum([4 * rows, 32 * rows, 16 * rows])
    scales, values, columns, steps = np.split(body, ends)
    return (
        scales.view(np.float32).reshape(rows, 1),
        values.view(np.float32).reshape(rows, 8),
        columns.view(np.uint16).reshape(rows, 8),
        steps.view(np.int8).reshape(rows, cols),
    )


def int8_into(out: Bytes, values: Tensor) -> None:
    rows, cols = values.shape
    scales, outliers, columns, steps = int8_parts(out, rows, cols)
    check(values)
    sizes = np.abs(values)
    largest = np.argpartition(sizes, (cols - 9, cols - 8), axis=1)
    np.divide(np.take_along_axis(sizes, largest[:, cols - 9 : cols - 8], axis=1), np.float32(127), out=scales)
    where = np.sort(largest[:, cols - 8 :], axis=1)
    columns[:] = where
    outliers[:] = np.take_along_axis(values, where, axis=1)
    scaled = values * np.divide(1, scales, out=np.zeros_like(scales), where=scales > LEAST_SCALE)
    np.put_along_axis(scaled, where, 0, axis=1)
    steps[:] = rounded(scaled)


def int8_from(body: Bytes, rows: int, cols: int) -> Tensor:
    scales, outliers, columns, steps = int8_parts(body, rows, cols)
    check(outliers)
    check(scales)
    where = columns.astype(np.intp)
    if (np.diff(where, axis=1) <= 0).any() or where[:, -1].max() >= cols or steps.min() == -128:
        raise ValueError("outliers")
    if np.take_along_axis(steps, where, axis=1).any():
        raise ValueError("outliers")
    values = steps.astype(np.float32)
    values *= scales
    np.put_along_axis(values, where, outliers, axis=1)
    return values


def convert_into(out: Bytes, values: Tensor, dtype: int) -> None:
    """Check and convert straight into the payload."""
    rows, cols = values.shape
    if dtype == frames.F32:
        check(values)
        out.view(np.float32).reshape(rows, cols)[:] = values
    elif dtype == frames.BF16:
        halves = out.view(ml_dtypes.bfloat16).reshape(rows, cols)
        halves[:] = values
        check_bf16(halves)
    elif dtype == frames.F16:
        largest = np.maximum(values.max(axis=1, keepdims=True), -values.min(axis=1, keepdims=True))
        check(largest)  # NaN spreads through min and max
        scales = np.exp2(np.frexp(largest)[1] - 15).astype(np.float32)
        out[: 4 * rows].view(np.float32)[:] = scales[:, 0]
        out[4 * rows :].view(np.float16).reshape(rows, cols)[:] = values * (1 / scales)
    elif dtype == frames.Q8_0:
        q8_0_into(out, values)
    else:
        int8_into(out, values)


def check_bf16(halves: npt.NDArray[ml_dtypes.bfloat16]) -> None:
    bits = halves.view(np.uint16) & np.uint16(0x7FFF)
    if bits.max() >= 0x7F80:
        raise ValueError("not finite")


def restore(body: Bytes, dtype: int, rows: int, cols: int) -> Tensor:
    """Check and widen a received payload; for f32 a view."""
    if dtype == frames.F32:
        values = body.view(np.float32).reshape(rows, cols)
        check(values)
        return values
    if dtype == frames.BF16:
        halves = body.view(ml_dtypes.bfloat16).reshape(rows, cols)
        check_bf16(halves)
        return halves.astype(np.float32)
    if dtype == frames.F16:
        values = body[4 * rows :].view(np.float16).reshape(rows, cols).astype(np.float32)
        values *= body[: 4 * rows].view(np.float32).reshape(rows, 1)
        check(values)
        return values
    return q8_0_from(body, rows, cols) if dtype == frames.Q8_0 else int8_from(body, rows, cols)
