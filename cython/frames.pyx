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

A frame has one spelling only: what may be zero must be zero, and each length is checked against the others and
against the limits before it is used for anything.
"""

from array import array

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.number cimport PyNumber_Index
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "frame_kernels.h" nogil:
    bint hali_all_finite_f32(const void *src, size_t n)
    bint hali_all_finite_bf16(const void *src, size_t n)
    bint hali_all_finite_f16(const void *src, size_t n)
    bint hali_all_scales_usable(const void *src, size_t n)
    bint hali_copy_finite_f32(void *dst, const void *src, size_t n)
    bint hali_f32_to_bf16(void *dst, const void *src, size_t n)
    void hali_bf16_to_f32(void *dst, const void *src, size_t n)
    bint hali_f32_to_f16_rows(void *scales, void *dst, const void *src, size_t rows, size_t cols)
    void hali_f16_rows_to_f32(void *dst, const void *scales, const void *src, size_t rows, size_t cols)
    bint hali_none_negative(const void *src, size_t n)
    bint hali_all_boolean(const void *src, size_t n)
    bint hali_all_zero(const void *src, size_t n)

cdef enum:
    _FIXED = 64          # the fixed header: one cache line, so the payload of a bare frame is aligned too
    _ALIGN = 64          # payload boundary: an AVX-512 vector or a cache line
    _VERSION = 1
    _EXT_LIMIT = 65536   # an extension is a message, and messages are at most 64 KiB
    _KIND_FIRST = 1
    _KIND_LAST = 8
    _F32 = 0
    _BF16 = 1
    _F16 = 2
    _I32 = 5
    _RAW = 6
    _DTYPE_LAST = 6
    _UNKNOWN_REQUIRED = 0xFFFE0000

MAGIC = b"HLF1"
VERSION = _VERSION
HEADER_SIZE = _FIXED
ALIGNMENT = _ALIGN
MAX_EXT = _EXT_LIMIT
MAX_ROWS = 8192                  # one llama.cpp batch
MAX_COLS = 65536                 # four times the widest n_embd in use (16,384)
MAX_PAYLOAD = 256 * 1024 * 1024

FORWARD, RESULT, TOKEN, ERROR, ACK, CANCEL, RELEASE, KV = 1, 2, 3, 4, 5, 6, 7, 8
F32, BF16, F16, Q8_0, INT8_OUTLIERS, I32, RAW = 0, 1, 2, 3, 4, 5, 6

# Whoever does not know FINAL would wait for frames that never come, so it is in the required half.
FLAG_FINAL = 1 << 16
OPTIONAL_FLAGS = 0x0000FFFF
REQUIRED_FLAGS = 0xFFFF0000

KIND_NAMES = {
    FORWARD: "forward", RESULT: "result", TOKEN: "token", ERROR: "error",
    ACK: "ack", CANCEL: "cancel", RELEASE: "release", KV: "kv",
}
DTYPE_NAMES = {
    F32: "f32", BF16: "bf16", F16: "f16", Q8_0: "q8_0", INT8_OUTLIERS: "int8+outliers", I32: "i32", RAW: "raw",
}

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


# The fixed header as it lies in memory. Every field sits on its natural boundary, so no compiler pads it.
cdef struct Header:
    uint8_t magic[4]
    uint8_t version
    uint8_t kind
    uint8_t dtype
    uint8_t zero
    uint32_t flags
    uint32_t features
    uint8_t session[16]
    uint32_t step
    uint16_t layer_start
    uint16_t layer_end
    uint32_t rows
    uint32_t cols
    uint64_t payload_length
    uint32_t header_length
    uint32_t ext_length


cdef inline uint64_t _ext_span(uint64_t ext_length) noexcept nogil:
    return (ext_length + 3) & ~<uint64_t>3


cdef inline uint64_t _header_length(uint64_t rows, uint64_t ext_length) noexcept nogil:
    return (_FIXED + _ext_span(ext_length) + 9 * rows + _ALIGN - 1) & ~<uint64_t>(_ALIGN - 1)


cdef uint64_t _payload_length(uint8_t dtype, uint64_t rows, uint64_t cols) except? 0xFFFFFFFF:
    """Bytes that rows × cols of this type take; rows and cols are below 2**32, so nothing overflows."""
    if dtype == _F32 or dtype == _I32:
        return rows * cols * 4
    if dtype == _BF16:
        return rows * cols * 2
    if dtype == _F16:
        return rows * 4 + rows * cols * 2
    raise FrameError("unsupported-dtype", f"dtype {DTYPE_NAMES[dtype]} is not supported by this build")


cdef int _check_header(const Header *h, uint64_t max_rows, uint64_t max_cols, uint64_t max_payload) except -1:
    """Refuse a fixed header that no rule allows. Afterwards each length in it is safe to use."""
    if memcmp(h.magic, b"HLF1", 4) != 0:
        raise FrameError("magic", f"not a frame: it starts with {bytes(h.magic[:4])!r}")
    if h.version != _VERSION:
        raise FrameError("version", f"frame version {h.version}; this build speaks {_VERSION}")
    if h.kind < _KIND_FIRST or h.kind > _KIND_LAST:
        raise FrameError("kind", f"unknown frame kind {h.kind}")
    if h.dtype > _DTYPE_LAST:
        raise FrameError("dtype", f"unknown dtype {h.dtype}")
    if h.zero != 0:
        raise FrameError("padding", "byte 7 of the header is not zero")
    if h.flags & <uint32_t>_UNKNOWN_REQUIRED:
        raise FrameError("flags", f"unknown required flags {h.flags & <uint32_t>_UNKNOWN_REQUIRED:#010x}")
    if h.layer_start > h.layer_end:
        raise FrameError("layers", f"layer range [{h.layer_start}, {h.layer_end}) runs backwards")
    if h.rows > max_rows:
        raise FrameError("limit", f"{h.rows} rows, at most {max_rows}")
    if h.cols > max_cols:
        raise FrameError("limit", f"{h.cols} columns, at most {max_cols}")
    if h.payload_length > max_payload:
        raise FrameError("limit", f"payload of {h.payload_length} bytes, at most {max_payload}")
    if h.ext_length > _EXT_LIMIT:
        raise FrameError("limit", f"extension of {h.ext_length} bytes, at most {_EXT_LIMIT}")
    if h.header_length != _header_length(h.rows, h.ext_length):
        raise FrameError("length", f"header length {h.header_length} does not fit {h.rows} rows")
    # raw bytes have no shape: rows and cols then only describe what the bytes are about
    if h.dtype != _RAW and h.payload_length != _payload_length(h.dtype, h.rows, h.cols):
        raise FrameError(
            "shape", f"payload of {h.payload_length} bytes is not {h.rows} × {h.cols} of {DTYPE_NAMES[h.dtype]}"
        )
    return 0


cdef int _check_payload(uint8_t dtype, const char *payload, uint64_t length, uint64_t rows) except -1:
    """Refuse NaN, infinity and row scales that would make one."""
    cdef bint good = True
    with nogil:
        if dtype == _F32:
            good = hali_all_finite_f32(payload, length // 4)
        elif dtype == _BF16:
            good = hali_all_finite_bf16(payload, length // 2)
        elif dtype == _F16:
            good = (hali_all_scales_usable(payload, rows)
                    and hali_all_finite_f16(payload + 4 * rows, (length - 4 * rows) // 2))
    if not good:
        raise FrameError("not-finite", f"NaN or infinity in a {DTYPE_NAMES[dtype]} payload")
    return 0


cdef class _View:
    """One buffer, held for as long as this object lives and given back on every path; itself plain read-only bytes."""

    cdef Py_buffer buffer
    cdef bint held

    def __cinit__(self, obj):
        PyObject_GetBuffer(obj, &self.buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    def __getbuffer__(self, Py_buffer *asked, int flags):
        # memoryview.cast refuses formats such as ctypes' "<f"; through here every buffer looks like bytes
        PyBuffer_FillInfo(asked, self, self.buffer.buf, self.buffer.len, 1, flags)

    cdef bint is_bytes(self):
        return self.buffer.itemsize == 1

    cdef bint has_type(self, tuple letters):
        """Whether the items are 4 bytes of one of these struct types, in this machine's order."""
        cdef bytes code = b"B" if self.buffer.format == NULL else self.buffer.format
        return self.buffer.itemsize == 4 and code.lstrip(b"@=<") in letters


cdef _View _integers(values, str name):
    """An int32 buffer as it is, or any iterable of ints packed into one."""
    cdef _View view
    if not PyObject_CheckBuffer(values):
        try:
            values = array("i", values)
        except OverflowError as error:
            raise FrameError(_FIELD_CODE[name], f"{name} must fit 32 bits: {error}") from None
    view = _View(values)
    if not view.has_type((b"i", b"l")):
        raise TypeError(f"{name} must be an int32 buffer or a sequence of int")
    return view


_FIELD_CODE = {"positions": "position", "sequences": "sequence"}


cdef _View _payload_view(payload, uint8_t dtype):
    """The input of encode: float32 for tensors, int32 for I32, and plain bytes taken as little-endian for all."""
    cdef _View view = _View(payload)
    if view.is_bytes() or dtype == _RAW:
        return view
    if dtype == _I32 and not view.has_type((b"i", b"l")):
        raise TypeError("an i32 payload must be an int32 buffer or bytes")
    if dtype <= _F16 and not view.has_type((b"f",)):
        raise TypeError("a tensor payload must be a float32 buffer or bytes")
    return view


cdef int _write_payload(uint8_t dtype, char *out, _View view, uint64_t rows, uint64_t cols) except -1:
    """Convert straight into the frame; the source is read once."""
    cdef const void *src = view.buffer.buf
    cdef size_t length = view.buffer.len
    cdef bint good = True
    with nogil:
        if dtype == _F32:
            good = hali_copy_finite_f32(out, src, rows * cols)
        elif dtype == _BF16:
            good = hali_f32_to_bf16(out, src, rows * cols)
        elif dtype == _F16:
            good = hali_f32_to_f16_rows(out, out + 4 * rows, src, rows, cols)
        else:
            memcpy(out, src, length)
    if not good:
        raise FrameError("not-finite", f"NaN, infinity or a value beyond {DTYPE_NAMES[dtype]} in the tensor")
    return 0


cdef uint64_t _bounded(value, uint64_t limit, str name) except? 0xFFFFFFFF:
    value = PyNumber_Index(value)  # C would cut a float down to an integer
    if not 0 <= value <= limit:
        raise FrameError("limit", f"{name} is {value}, outside 0 to {limit}")
    return value


def encode(
    kind,
    *,
    session,
    step=0,
    layer_start=0,
    layer_end=0,
    flags=0,
    features=0,
    positions=(),
    sequences=None,
    outputs=None,
    cols=0,
    dtype=RAW,
    payload=b"",
    ext=b"",
):
    cdef _View session_view = _View(session), ext_view = _View(ext), positions_view, sequences_view
    cdef _View outputs_view, payload_view
    cdef Header h
    cdef char *out
    cdef uint64_t at, header
    positions_view = _integers(positions, "positions")
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
    h.rows = _bounded(positions_view.buffer.len // 4, MAX_ROWS, "rows")
    h.cols = _bounded(cols, MAX_COLS, "cols")
    h.ext_length = _bounded(ext_view.buffer.len, _EXT_LIMIT, "extension length")
    h.header_length = _header_length(h.rows, h.ext_length)
    payload_view = _payload_view(payload, h.dtype)
    if h.dtype > _DTYPE_LAST:
        raise FrameError("dtype", f"unknown dtype {h.dtype}")
    h.payload_length = payload_view.buffer.len
    if h.dtype != _RAW:
        h.payload_length = _payload_length(h.dtype, h.rows, h.cols)
        if <uint64_t>payload_view.buffer.len != <uint64_t>h.rows * h.cols * 4:
            raise FrameError("shape", f"payload of {payload_view.buffer.len} bytes is not {h.rows} × {h.cols} items")
    _check_header(&h, MAX_ROWS, MAX_COLS, MAX_PAYLOAD)
    sequences_view = None if sequences is None else _integers(sequences, "sequences")
    outputs_view = None if outputs is None else _View(outputs)
    if sequences_view is not None and <uint64_t>sequences_view.buffer.len != 4 * <uint64_t>h.rows:
        raise FrameError("shape", f"{sequences_view.buffer.len // 4} sequences for {h.rows} rows")
    if outputs_view is not None and <uint64_t>outputs_view.buffer.len != h.rows:
        raise FrameError("shape", f"{outputs_view.buffer.len} output marks for {h.rows} rows")

    frame = bytearray()
    header = h.header_length
    PyByteArray_Resize(frame, header + h.payload_length)  # without zeroing: a payload is written once only
    out = PyByteArray_AS_STRING(frame)
    memset(out, 0, header)
    memcpy(out, &h, _FIXED)
    memcpy(out + _FIXED, ext_view.buffer.buf, h.ext_length)
    at = _FIXED + _ext_span(h.ext_length)
    memcpy(out + at, positions_view.buffer.buf, 4 * h.rows)
    if sequences_view is not None:
        memcpy(out + at + 4 * h.rows, sequences_view.buffer.buf, 4 * h.rows)
    if outputs_view is not None:
        memcpy(out + at + 8 * h.rows, outputs_view.buffer.buf, h.rows)
    _check_rows(&h, out)
    _write_payload(h.dtype, out + header, payload_view, h.rows, h.cols)
    return frame


cdef int _check_rows(const Header *h, const char *data) except -1:
    """Positions and sequence ids count from 0, output marks are 0 or 1, padding is zero."""
    cdef uint64_t ext_end = _FIXED + h.ext_length
    cdef uint64_t at = _FIXED + _ext_span(h.ext_length)
    cdef uint64_t end = at + 9 * <uint64_t>h.rows
    if not (hali_all_zero(data + ext_end, at - ext_end) and hali_all_zero(data + end, h.header_length - end)):
        raise FrameError("padding", "bytes between the parts of the header are not zero")
    if not hali_none_negative(data + at, h.rows):
        raise FrameError("position", "negative position")
    if not hali_none_negative(data + at + 4 * h.rows, h.rows):
        raise FrameError("sequence", "negative sequence id")
    if not hali_all_boolean(data + at + 8 * h.rows, h.rows):
        raise FrameError("mask", "an output mark is neither 0 nor 1")
    return 0


def frame_length(prefix, *, max_rows=MAX_ROWS, max_cols=MAX_COLS, max_payload=MAX_PAYLOAD):
    cdef _View view = _View(prefix)
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


cdef class Frame:
    cdef readonly int version, kind, dtype
    cdef readonly uint32_t flags, features, step, rows, cols
    cdef readonly uint16_t layer_start, layer_end
    cdef readonly bytes session
    cdef readonly object ext, positions, sequences, outputs, payload

    def __init__(self):
        raise TypeError("frames are made by decode()")

    def __repr__(self):
        return (
            f"<Frame {KIND_NAMES[self.kind]} session={self.session.hex()[:8]} step={self.step} "
            f"layers=[{self.layer_start}, {self.layer_end}) {self.rows}×{self.cols} {DTYPE_NAMES[self.dtype]}>"
        )

    def to_f32(self):
        cdef _View view
        cdef const char *src
        cdef char *dst
        cdef uint64_t rows = self.rows, cols = self.cols
        if self.dtype == _F32:
            return self.payload
        if self.dtype != _BF16 and self.dtype != _F16:
            raise FrameError("unsupported-dtype", f"a {DTYPE_NAMES[self.dtype]} payload holds no tensor")
        view = _View(self.payload)
        out = bytearray()
        PyByteArray_Resize(out, rows * cols * 4)
        src = <const char *>view.buffer.buf
        dst = PyByteArray_AS_STRING(out)
        with nogil:
            if self.dtype == _BF16:
                hali_bf16_to_f32(dst, src, rows * cols)
            else:
                hali_f16_rows_to_f32(dst, src, src + 4 * rows, rows, cols)
        return memoryview(out).cast("f")


def decode(buffer, *, max_rows=MAX_ROWS, max_cols=MAX_COLS, max_payload=MAX_PAYLOAD):
    cdef _View view = _View(buffer)
    cdef const char *data = <const char *>view.buffer.buf
    cdef uint64_t length = view.buffer.len, at, rows, total
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
    _check_payload(h.dtype, data + h.header_length, h.payload_length, h.rows)

    rows = h.rows
    at = _FIXED + _ext_span(h.ext_length)
    whole = memoryview(view)
    frame = Frame.__new__(Frame)
    frame.version, frame.kind, frame.dtype = h.version, h.kind, h.dtype
    frame.flags, frame.features, frame.step = h.flags, h.features, h.step
    frame.rows, frame.cols = h.rows, h.cols
    frame.layer_start, frame.layer_end = h.layer_start, h.layer_end
    frame.session = (<char *>h.session)[:16]
    frame.ext = whole[_FIXED:_FIXED + h.ext_length]
    frame.positions = whole[at:at + 4 * rows].cast("i")
    frame.sequences = whole[at + 4 * rows:at + 8 * rows].cast("i")
    frame.outputs = whole[at + 8 * rows:at + 9 * rows]
    payload = whole[h.header_length:]
    frame.payload = payload.cast("f") if h.dtype == _F32 else payload.cast("i") if h.dtype == _I32 else payload
    return frame
