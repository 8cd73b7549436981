"""HLF1 frames: what engine workers and the stages of a split model send each other, on sockets and streams alike.

A frame is a 64-byte little-endian header, an optional extension, one position, sequence id and output mark a row, and
a payload at a 64-byte boundary. ``cython/frames.pyx`` shows the layout byte by byte; ``tests/vectors/frames`` holds
examples.

Every length is checked against the limits and against the other lengths before it is used; a tensor with NaN or
infinity is refused on both sides. Decoding copies nothing. The loops over a payload are compiled for several
instruction sets, of which the widest that this CPU has is used; all give the same bits.

Additions to the format are announced, not guessed. The handshake between two nodes exchanges ``FEATURES``; a sender
uses what both speak. In a frame, unknown bits of ``features`` are ignored, unknown optional flags are skipped and
unknown required flags, kinds and dtypes are refused.
"""

from collections.abc import Iterable
from typing import Final, Literal, Never, TypeAlias, final

from typing_extensions import Buffer

_FrameCode: TypeAlias = Literal[
    "truncated",
    "trailing",
    "magic",
    "length",
    "padding",
    "version",
    "kind",
    "dtype",
    "unsupported-dtype",
    "flags",
    "layers",
    "limit",
    "shape",
    "position",
    "sequence",
    "mask",
    "not-finite",
    "outliers",
]

MAGIC: Final[bytes]
VERSION: Final[int]
HEADER_SIZE: Final[int]
"""Bytes of the fixed header: what ``frame_length`` needs to see."""
ALIGNMENT: Final[int]
"""The payload starts at a multiple of this, counted from the start of the frame."""
MAX_EXT: Final[int]
MAX_ROWS: Final[int]
"""The limits of the format: ``decode`` and ``frame_length`` can be given lower ones, not higher."""
MAX_COLS: Final[int]
MAX_PAYLOAD: Final[int]

FORWARD: Final[int]
"""Rows for a stage to compute: token ids (``I32``) or hidden states."""
RESULT: Final[int]
"""Hidden states or logits that a stage computed."""
TOKEN: Final[int]
"""Sampled token ids."""
ERROR: Final[int]
"""The step failed; the extension says how, with a code and whether to retry."""
ACK: Final[int]
CANCEL: Final[int]
RELEASE: Final[int]
"""The session is over: give back its KV cache."""
KV: Final[int]
"""Bytes of a KV cache (``RAW``)."""
KIND_NAMES: Final[dict[int, str]]

F32: Final[int]
BF16: Final[int]
F16: Final[int]
"""Halves with one f32 scale a row; the scales come first. Written with powers of two, so that scaling is exact."""
Q8_0: Final[int]
"""ggml's block_q8_0, bit for bit as its reference quantiser: per 32 values an f16 scale and 32 int8. ``cols`` is a
multiple of 32 (``shape``); the largest value is below 65,520 × 127 (``not-finite``)."""
INT8_OUTLIERS: Final[int]
"""The min(8, cols) largest |values| of each row as they are, the earlier column first among equals, and int8 with one
f32 scale a row for the rest. Parts, without gaps: scales f32[rows], outlier values f32[rows × k], their columns
u16[rows × k] ascending within a row, int8[rows × cols] with 0 in those columns and no -128. A scale is 0 (then all of
the rest is) or greater than 2**-128, and 127 times it is finite."""
I32: Final[int]
RAW: Final[int]
"""Opaque bytes of any length; rows and cols do not bound them."""
DTYPE_NAMES: Final[dict[int, str]]

FLAG_FINAL: Final[int]
"""Nothing follows in this session and direction."""
OPTIONAL_FLAGS: Final[int]
"""Mask of the flags that a receiver which does not know them skips."""
REQUIRED_FLAGS: Final[int]
"""Mask of the flags that a receiver which does not know them refuses."""

FEATURE_Q8_0: Final[int]
"""Reads and writes ``Q8_0``."""
FEATURE_INT8_OUTLIERS: Final[int]
"""Reads and writes ``INT8_OUTLIERS``."""
FEATURES: Final[int]
"""What this build speaks beyond version 1 with f32, bf16, f16, i32 and raw."""

class FrameError(ValueError):
    """A frame that cannot be encoded or must not be believed.

    ``retryable`` is true for damage on the way (truncated, trailing, magic, length, padding) and false where both
    sides disagree: the same frame would be refused again.
    """

    code: _FrameCode
    retryable: bool
    def __init__(self, code: _FrameCode, message: str) -> None: ...

@final
class Frame:
    """One decoded frame. It and its views keep the buffer alive; a ``bytearray`` cannot be resized meanwhile.

    Views are read-only and made anew each time they are asked for.
    """

    def __init__(self, *args: Never, **kwargs: Never) -> None:
        """Raises TypeError: ``decode`` makes frames."""

    @property
    def version(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def dtype(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def features(self) -> int: ...
    @property
    def session(self) -> bytes:
        """16 bytes."""

    @property
    def step(self) -> int: ...
    @property
    def layer_start(self) -> int: ...
    @property
    def layer_end(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def ext(self) -> memoryview[int]:
        """The extension, MessagePack by convention; not parsed here."""

    @property
    def positions(self) -> memoryview[int]:
        """i32[rows], none negative."""

    @property
    def sequences(self) -> memoryview[int]:
        """i32[rows], none negative."""

    @property
    def outputs(self) -> memoryview[int]:
        """u8[rows], 1 where the receiver must return the row's output."""

    @property
    def payload(self) -> memoryview[float] | memoryview[int]:
        """A view of the received bytes: float32 items for ``F32``, int32 for ``I32``, plain bytes for all else."""

    def to_f32(self, into: Buffer | None = None) -> memoryview[float]:
        """The tensor as rows × cols float32 in one dimension; a copy only where a conversion is needed.

        With ``into``, a writable buffer that does not overlap the frame's, it is always written there, and what is
        returned is a view of that. Raises FrameError ``unsupported-dtype`` for ``I32`` and ``RAW``, ``limit`` if
        ``into`` is too small.
        """

def encode(
    kind: int,
    *,
    session: Buffer,
    step: int = 0,
    layer_start: int = 0,
    layer_end: int = 0,
    flags: int = 0,
    features: int = 0,
    positions: Buffer | Iterable[int] = (),
    sequences: Buffer | Iterable[int] | None = None,
    outputs: Buffer | None = None,
    cols: int = 0,
    dtype: int = ...,
    payload: Buffer = b"",
    ext: Buffer = b"",
) -> bytearray:
    """One frame in one new buffer; the payload is converted straight into it.

    ``positions`` gives the number of rows. ``sequences`` and ``outputs`` have one entry a row, zeros when absent.
    ``payload`` is a C-contiguous buffer of rows × cols float32 (tensors) or int32 (``I32``), or of plain bytes that
    are the same in little-endian; for ``RAW``, the default, any buffer. ``session`` is 16 bytes.
    Raises FrameError for values that break a rule of the format, TypeError for buffers of another item type.
    """

def encode_into(
    out: Buffer,
    kind: int,
    *,
    session: Buffer,
    step: int = 0,
    layer_start: int = 0,
    layer_end: int = 0,
    flags: int = 0,
    features: int = 0,
    positions: Buffer | Iterable[int] = (),
    sequences: Buffer | Iterable[int] | None = None,
    outputs: Buffer | None = None,
    cols: int = 0,
    dtype: int = ...,
    payload: Buffer = b"",
    ext: Buffer = b"",
) -> int:
    """The same frame at the start of a writable buffer that is used again and again; the number of its bytes.

    Raises as ``encode``, and FrameError ``limit`` if ``out`` is too small. ``out`` must not overlap what is encoded;
    after a FrameError its contents are undefined.
    """

def frame_length(
    prefix: Buffer, *, max_rows: int = 8192, max_cols: int = 65536, max_payload: int = 268435456
) -> int | None:
    """Bytes of the frame that starts with ``prefix``, or None while fewer than ``HEADER_SIZE`` are there.

    Checks the whole fixed header, so that nothing is allocated for a frame that will be refused; a wrong magic is
    noticed from the first byte on.
    """

def decode(buffer: Buffer, *, max_rows: int = 8192, max_cols: int = 65536, max_payload: int = 268435456) -> Frame:
    """The one frame that fills ``buffer`` exactly. Raises FrameError, whatever the bytes are."""
