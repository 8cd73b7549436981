# The fixed header: what it may say. Included by frames.pyx.

cdef enum:
    _FIXED = 64          # the fixed header: one cache line, so the payload of a bare frame is aligned too
    _ALIGN = 64          # payload boundary: an AVX-512 vector or a cache line
    _VERSION = 1
    _EXT_LIMIT = 65536   # an extension is a message, and messages are at most 64 KiB
    _ROWS_LIMIT = 8192   # one llama.cpp batch
    _COLS_LIMIT = 65536  # four times the widest n_embd in use (16,384); an outlier's column is a u16
    _PAYLOAD_LIMIT = 268435456
    _KIND_FIRST = 1
    _KIND_LAST = 8
    _F32 = 0
    _BF16 = 1
    _F16 = 2
    _Q8_0 = 3
    _INT8_OUTLIERS = 4
    _I32 = 5
    _RAW = 6
    _DTYPE_LAST = 6
    _UNKNOWN_REQUIRED = 0xFFFE0000


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
    if dtype == _BF16:
        return rows * cols * 2
    if dtype == _F16:
        return rows * 4 + rows * cols * 2
    if dtype == _Q8_0:
        if cols % 32 != 0:
            raise FrameError("shape", f"{cols} columns of q8_0 are not whole blocks of 32")
        return rows * (cols // 32) * 34
    if dtype == _INT8_OUTLIERS:
        return rows * (4 + 6 * min(cols, <uint64_t>HALI_OUTLIERS) + cols)
    return rows * cols * 4


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
    max_rows = min(max_rows, <uint64_t>_ROWS_LIMIT)
    max_cols = min(max_cols, <uint64_t>_COLS_LIMIT)
    max_payload = min(max_payload, <uint64_t>_PAYLOAD_LIMIT)
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
