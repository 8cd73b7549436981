"""Damaged frames by the ten thousand: decode answers with a frame or a FrameError, never anything else.

`HALI_LONG=1` tries a million, from a new seed each time; a failure prints seed and bytes.
"""

from __future__ import annotations

import os
import random
import struct

from hali._native import frames
from tests.vectors.frames.reference import EXAMPLES, frame

LONG = bool(os.environ.get("HALI_LONG"))
ROUNDS = 1_000_000 if LONG else 20_000
SEED = random.SystemRandom().getrandbits(32) if LONG else 1

SEEDS = [frame(example) for example in EXAMPLES.values()]
# offset and struct letter of each field of the fixed header that is a length, a count or a type
FIELDS = [
    (4, "B"),
    (5, "B"),
    (6, "B"),
    (8, "I"),
    (36, "H"),
    (38, "H"),
    (40, "I"),
    (44, "I"),
    (48, "Q"),
    (56, "I"),
    (60, "I"),
]
EDGES = [
    0,
    1,
    2,
    3,
    63,
    64,
    65,
    255,
    8192,
    8193,
    65535,
    65536,
    65537,
    1 << 28,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 64) - 1,
]


def damaged(rng: random.Random) -> bytes:
    """One example with up to four bit flips, edge values in header fields, cuts and splices."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 4)):
        match rng.randrange(5):
            case 0 if data:
                bit = rng.randrange(8 * len(data))
                data[bit // 8] ^= 1 << bit % 8
            case 1 if len(data) >= 64:
                at, letter = rng.choice(FIELDS)
                limit = 1 << 8 * struct.calcsize(letter)
                struct.pack_into("<" + letter, data, at, rng.choice(EDGES) % limit)
            case 2:
                del data[rng.randrange(len(data) + 1) :]
            case 3:
                other = rng.choice(SEEDS)
                data += other[rng.randrange(len(other)) :]
            case _:
                at = rng.randrange(len(data) + 1)
                data[at : at + 8] = rng.randbytes(rng.randrange(9))
    return bytes(data)


def read_everything(got: frames.Frame, data: bytes) -> None:
    """Touch every byte a decoded frame offers; its parts lie within the frame."""
    assert len(got.positions) == len(got.sequences) == len(got.outputs) == got.rows <= frames.MAX_ROWS
    assert got.cols <= frames.MAX_COLS
    assert got.ext.nbytes + got.payload.nbytes + 9 * got.rows + 64 <= len(data)
    bytes(got.ext), list(got.positions), list(got.sequences), bytes(got.outputs), bytes(got.payload)
    if got.dtype in (frames.F32, frames.BF16, frames.F16):
        assert len(got.to_f32()) == got.rows * got.cols


def test_damaged_frames_are_refused_or_read_within_their_bounds() -> None:
    rng = random.Random(SEED)
    accepted = refused = 0
    for _ in range(ROUNDS):
        data = damaged(rng)
        try:
            length = frames.frame_length(data)
            got = frames.decode(data)
        except frames.FrameError as error:
            assert error.code, (SEED, data.hex())
            refused += 1
            continue
        assert length == len(data), (SEED, data.hex())
        read_everything(got, data)
        accepted += 1
    assert accepted > ROUNDS // 100, "the damage is so heavy that nothing behind the header is reached"
    assert refused > ROUNDS // 100
