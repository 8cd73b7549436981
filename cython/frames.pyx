# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True, autotestdict=False, auto_pickle=False
"""The HLF1 frame: encode and decode what engine workers and stages say to each other. Docs: frames.pyi.

Layout, little-endian, offsets in bytes:

    0  magic 'HLF1'      12  features u32       44  cols u32
    4  version u8        16  session 16 B       48  payload length u64
    5  kind u8           32  step u32           56  header length u32: from 0 to the payload, a multiple of 64
    6  dtype u8          36  layer_start u16    60  extension length u32
    7  zero              38  layer_end u16      64  extension, zeros up to a multiple of 4
    8  flags u32         40  rows u32               positions i32[rows], sequences i32[rows], outputs u8[rows],
                                                    zeros up to a multiple of 64, payload

Payload by dtype, n = rows × cols; all parts follow each other without gaps:

    0  f32             f32[n]
    1  bf16            u16[n]
    2  f16             scales f32[rows], f16[n]
    3  q8_0            n / 32 blocks of 34 bytes: scale f16, i8[32]; cols is a multiple of 32
    4  int8+outliers   scales f32[rows], values f32[rows × k], columns u16[rows × k] ascending within a row, i8[n] with
                       zeros in those columns and no -128; k = min(8, cols)
    5  i32             i32[n]
    6  raw             any bytes

A frame has one spelling only: what may be zero must be zero, and each length is checked against the others and
against the limits before it is used for anything.
"""

from array import array

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.number cimport PyNumber_Index
from libc.stddef cimport size_t
from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "frame_memory.h" nogil:
    void hali_prefer_huge_pages(void *memory, size_t size)

# Damage on the way: another connection may bring the same frame whole. All other codes are disagreements.
_RETRYABLE = frozenset({"truncated", "trailing", "magic", "length", "padding"})


class FrameError(ValueError):
    """A frame that cannot be encoded or must not be believed; ``code`` says which rule it breaks."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.retryable = code in _RETRYABLE

    def __reduce__(self):
        return FrameError, (self.code, str(self))


include "frame_payload.pxi"
include "frame_header.pxi"
include "frame_buffers.pxi"
include "frame_object.pxi"

MAGIC = b"HLF1"
VERSION = _VERSION
HEADER_SIZE = _FIXED
ALIGNMENT = _ALIGN
MAX_EXT = _EXT_LIMIT
MAX_ROWS = _ROWS_LIMIT
MAX_COLS = _COLS_LIMIT
MAX_PAYLOAD = _PAYLOAD_LIMIT

FORWARD, RESULT, TOKEN, ERROR, ACK, CANCEL, RELEASE, KV = 1, 2, 3, 4, 5, 6, 7, 8
F32, BF16, F16, Q8_0, INT8_OUTLIERS, I32, RAW = 0, 1, 2, 3, 4, 5, 6

# Whoever does not know FINAL would wait for frames that never come, so it is in the required half.
FLAG_FINAL = 1 << 16
OPTIONAL_FLAGS = 0x0000FFFF
REQUIRED_FLAGS = 0xFFFF0000

FEATURE_Q8_0 = 1 << 0
FEATURE_INT8_OUTLIERS = 1 << 1
FEATURES = FEATURE_Q8_0 | FEATURE_INT8_OUTLIERS

KIND_NAMES = {
    FORWARD: "forward", RESULT: "result", TOKEN: "token", ERROR: "error",
    ACK: "ack", CANCEL: "cancel", RELEASE: "release", KV: "kv",
}
DTYPE_NAMES = {
    F32: "f32", BF16: "bf16", F16: "f16", Q8_0: "q8_0", INT8_OUTLIERS: "int8+outliers", I32: "i32", RAW: "raw",
}


def encode(
    kind, *, session, step=0, layer_start=0, layer_end=0, flags=0, features=0, positions=(), sequences=None,
    outputs=None, cols=0, dtype=_RAW, payload=b"", ext=b"",
):
    return _encode(
        None, kind, session, step, layer_start, layer_end, flags, features, positions, sequences, outputs, cols, dtype,
        payload, ext,
    )


def encode_into(
    out, kind, *, session, step=0, layer_start=0, layer_end=0, flags=0, features=0, positions=(), sequences=None,
    outputs=None, cols=0, dtype=_RAW, payload=b"", ext=b"",
):
    if out is None:
        raise TypeError("encode_into writes into a buffer, not None")
    return _encode(
        out, kind, session, step, layer_start, layer_end, flags, features, positions, sequences, outputs, cols, dtype,
        payload, ext,
    )


cdef object _encode(
    into, kind, session, step, layer_start, layer_end, flags, features, positions, sequences, outputs, cols, dtype,
    payload, ext,
):
    """The frame in a new bytearray, or the number of bytes of it at the start of `into`."""
    cdef _View session_view = _view(session), ext_view = _view(ext), payload_view
    cdef _View positions_view = None if positions is _NONE else _integers(positions, "positions")
    cdef _View sequences_view = None if sequences is None else _integers(sequences, "sequences")
    cdef _View outputs_view = None if outputs is None else _view(outputs)
    cdef Header h
    cdef uint64_t size
    if session_view.buffer.len != 16:
        raise FrameError("limit", f"a session id is 16 bytes, not {session_view.buffer.len}")
    memset(&h, 0, sizeof(Header))
    memcpy(h.magic, b"HLF1", 4)
    memcpy(h.session, session_view.buffer.buf, 16)
    h.version = _VERSION
    h.kind = _bounded(kind, 255, "kind")
    h.dtype = _bounded(dtype, 255, "dtype")
    h.flags = _bounded(flags, 0xFFFFFFFF, "flags")
    h.features = _bounded(features, 0xFFFFFFFF, "features")
    h.step = _bounded(step, 0xFFFFFFFF, "step")
    h.layer_start = _bounded(layer_start, 0xFFFF, "layer_start")
    h.layer_end = _bounded(layer_end, 0xFFFF, "layer_end")
    h.rows = 0 if positions_view is None else _bounded(positions_view.buffer.len // 4, _ROWS_LIMIT, "rows")
    h.cols = _bounded(cols, _COLS_LIMIT, "cols")
    h.ext_length = _bounded(ext_view.buffer.len, _EXT_LIMIT, "extension length")
    h.header_length = _header_length(h.rows, h.ext_length)
    payload_view = _payload_view(payload, h.dtype)
    _fit(&h, payload_view, sequences_view, outputs_view)
    size = h.header_length + h.payload_length
    if into is None:
        frame = _fresh(size)
        _write(&h, PyByteArray_AS_STRING(frame), ext_view, positions_view, sequences_view, outputs_view, payload_view)
        return frame
    room = _room(into, size, "a frame")
    _write(&h, <char *>room.buffer.buf, ext_view, positions_view, sequences_view, outputs_view, payload_view)
    return size


_NONE = ()  # the one empty tuple there is: a frame without rows needs no array made of it


cdef int _fit(Header *h, _View payload, _View sequences, _View outputs) except -1:
    """Set the payload length; refuse buffers that do not fit the shape, and a header that a receiver would refuse."""
    cdef uint64_t given = payload.buffer.len
    if h.dtype > _DTYPE_LAST:
        raise FrameError("dtype", f"unknown dtype {h.dtype}")
    h.payload_length = given
    if h.dtype != _RAW:
        h.payload_length = _payload_length(h.dtype, h.rows, h.cols)
        if given != <uint64_t>h.rows * h.cols * 4:
            raise FrameError("shape", f"payload of {given} bytes is not {h.rows} × {h.cols} items")
    _check_header(h, _ROWS_LIMIT, _COLS_LIMIT, _PAYLOAD_LIMIT)
    if sequences is not None and <uint64_t>sequences.buffer.len != 4 * <uint64_t>h.rows:
        raise FrameError("shape", f"{sequences.buffer.len // 4} sequences for {h.rows} rows")
    if outputs is not None and <uint64_t>outputs.buffer.len != h.rows:
        raise FrameError("shape", f"{outputs.buffer.len} output marks for {h.rows} rows")
    return 0


cdef int _write(
    const Header *h, char *out, _View ext, _View positions, _View sequences, _View outputs, _View payload
) except -1:
    """All bytes of the frame; `out` has room for them."""
    cdef char *rows_at = out + _FIXED + _ext_span(h.ext_length)
    memset(out + _FIXED, 0, h.header_length - _FIXED)
    memcpy(out, h, _FIXED)
    if h.ext_length > 0:
        memcpy(out + _FIXED, ext.buffer.buf, h.ext_length)
    if h.rows > 0:
        memcpy(rows_at, positions.buffer.buf, 4 * h.rows)
        if sequences is not None:
            memcpy(rows_at + 4 * h.rows, sequences.buffer.buf, 4 * h.rows)
        if outputs is not None:
            memcpy(rows_at + 8 * h.rows, outputs.buffer.buf, h.rows)
    _check_rows(h, out)
    return _write_payload(h, out + h.header_length, payload)


def frame_length(prefix, *, max_rows=_ROWS_LIMIT, max_cols=_COLS_LIMIT, max_payload=_PAYLOAD_LIMIT):
    cdef _View view = _view(prefix)
    cdef Header h
    cdef Py_ssize_t seen = min(view.buffer.len, 4)
    start = (<char *>view.buffer.buf)[:seen]
    if not MAGIC.startswith(start):
        raise FrameError("magic", f"not a frame: it starts with {start!r}")
    if view.buffer.len < _FIXED:
        return None
    memcpy(&h, view.buffer.buf, _FIXED)
    _check_header(&h, max_rows, max_cols, max_payload)
    return h.header_length + h.payload_length


def decode(buffer, *, max_rows=_ROWS_LIMIT, max_cols=_COLS_LIMIT, max_payload=_PAYLOAD_LIMIT):
    cdef _View view = _view(buffer)
    cdef const char *data = <const char *>view.buffer.buf
    cdef uint64_t length = view.buffer.len, total
    cdef Header h
    cdef Frame frame
    if length < _FIXED:
        raise FrameError("truncated", f"{length} bytes; a frame has at least {_FIXED}")
    memcpy(&h, data, _FIXED)
    _check_header(&h, max_rows, max_cols, max_payload)
    total = h.header_length + h.payload_length
    if length != total:
        raise FrameError("truncated" if length < total else "trailing", f"{length} bytes of a frame of {total}")
    _check_rows(&h, data)
    _check_payload(&h, data + h.header_length)

    frame = Frame.__new__(Frame)
    frame.view = view
    frame.version, frame.kind, frame.dtype = h.version, h.kind, h.dtype
    frame.flags, frame.features, frame.step = h.flags, h.features, h.step
    frame.rows, frame.cols = h.rows, h.cols
    frame.layer_start, frame.layer_end = h.layer_start, h.layer_end
    frame.session = (<char *>h.session)[:16]
    frame.ext_length, frame.payload_length = h.ext_length, h.payload_length
    frame.rows_at, frame.payload_at = _FIXED + _ext_span(h.ext_length), h.header_length
    return frame
