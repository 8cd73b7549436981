"""`python -m bench.counts.work NAME N`: one of the hot paths, N times; run under callgrind by `bench.counts`."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from hali._native import frames, hashcore, scoring

MIB = 1 << 20
SHAPE = (16, 4096)  # rows, columns: a batch of an 8B model


class Work(NamedTuple):
    """A hot path, and what its instructions are counted by."""

    run: Callable[[], object]
    items: int
    unit: str


def numbers(count: int) -> array[float]:
    """float32 values as hidden states have them, without NumPy, whose import would cost callgrind a minute."""
    return array("f", [((i * 2654435761) % 20011 - 10005) / 300 for i in range(count)])


def hash_works() -> dict[str, Work]:
    """One piece of a MiB: SHA-1 of one message, SHA-256 of many, BLAKE3. Several pieces would take callgrind minutes."""
    piece = bytes(MIB)
    return {"hash_piece": Work(partial(hashcore.hash_piece, piece, 0, MIB), MIB, "byte")}


def frame_works() -> dict[str, Work]:
    """Encoding, and decoding to float32."""
    rows, cols = SHAPE
    values = numbers(rows * cols)
    names = {
        "f32": frames.F32,
        "bf16": frames.BF16,
        "f16": frames.F16,
        "q8_0": frames.Q8_0,
        "int8+outliers": frames.INT8_OUTLIERS,
    }
    works = {}
    for name, dtype in names.items():
        encode = partial(
            frames.encode,
            frames.FORWARD,
            session=bytes(16),
            positions=range(rows),
            cols=cols,
            dtype=dtype,
            payload=values,
        )
        data = bytes(encode())
        works[f"encode {name}"] = Work(encode, rows * cols, "value")
        works[f"decode {name}"] = Work(lambda data=data: frames.decode(data).to_f32(), rows * cols, "value")  # type: ignore[misc]
    return works


def scoring_works() -> dict[str, Work]:
    """Scores of what to fetch and what to drop, and the best hundred."""
    rows = 50_000
    column = array("d", [float(i * 7919 % 50) for i in range(rows)])
    marks, out = bytes(i * 31 % 32 for i in range(rows)), array("d", bytes(8 * rows))
    columns = column, column, column, column, array("d", [0.5]) * rows, array("d", [0.01]) * rows
    score = partial(scoring.score_candidates, *columns, marks, out, region_minimum=2.0, pool_bytes=3e9)
    score()  # the best hundred of these are looked for
    dropped = array("d", bytes(8 * rows))
    prune = partial(
        scoring.prune_scores, *[column] * 7, array("H", [i * 31 % 64 for i in range(rows)]), dropped, pressure=0.9
    )
    return {
        "score": Work(score, rows, "candidate"),
        "prune": Work(prune, rows, "candidate"),
        "top 100": Work(partial(scoring.top_k, out, 100), rows, "candidate"),
    }


MAKERS = (hash_works, frame_works, scoring_works)

if __name__ == "__main__":
    name, times = sys.argv[1], int(sys.argv[2])
    (work,) = (works[name] for make in MAKERS if name in (works := make()))
    for _ in range(times):
        work.run()
