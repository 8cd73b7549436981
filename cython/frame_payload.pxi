# What a payload holds, and its way in and out. Included by frames.pyx.

cdef extern from "frame_kernels.h" nogil:
    cdef enum:
        HALI_OUTLIERS
    ctypedef struct hali_int8:
        char *q
        size_t rows
        size_t cols
    ctypedef struct hali_loops:
        const char *name
        int (*all_finite_f32)(const void *src, size_t n) noexcept nogil
        int (*all_finite_16)(const void *src, size_t n, int16_t infinity) noexcept nogil
        int (*none_is_minus_128)(const void *src, size_t n) noexcept nogil
        int (*f32_to_bf16)(void *dst, const void *src, size_t n) noexcept nogil
        void (*bf16_to_f32)(void *dst, const void *src, size_t n) noexcept nogil
        int (*f32_to_f16_rows)(void *scales, void *dst, const void *src, size_t rows, size_t cols) noexcept nogil
        void (*f16_rows_to_f32)(void *dst, const void *scales, const void *src, size_t rows, size_t cols) noexcept nogil
        int (*f32_to_q8_0)(void *dst, const void *src, size_t n) noexcept nogil
        void (*q8_0_to_f32)(void *dst, const void *src, size_t n) noexcept nogil
        int (*f32_to_int8_rows)(const hali_int8 *to, const void *src) noexcept nogil
        void (*int8_rows_to_f32)(void *dst, const hali_int8 *of) noexcept nogil
    const hali_loops *hali_loops_all
    int hali_loops_count()
    int hali_finite_f32(const hali_loops *loops, void *dst, const void *src, size_t n)
    hali_int8 hali_int8_parts(const void *payload, size_t rows, size_t cols)
    bint hali_all_scales_usable(const void *src, size_t n)
    bint hali_q8_0_finite(const void *src, size_t n)
    bint hali_int8_scales_usable(const hali_int8 *of)
    bint hali_outliers_in_place(const hali_int8 *of)
    bint hali_none_negative(const void *src, size_t n)
    bint hali_all_boolean(const void *src, size_t n)
    bint hali_all_zero(const void *src, size_t n)

cdef const hali_loops *_loops = &hali_loops_all[hali_loops_count() - 1]

cdef enum:
    # payload bytes from which the GIL is released: below, the work (under 10 µs) is shorter than a hand-over
    _RELEASE_FROM = 65536
    _FINE = 0
    _NOT_FINITE = 1
    _MISPLACED = 2


def _loop_names():
    """The instruction sets that this CPU has loops for, from plain to wide: for tests, which compare them."""
    return [hali_loops_all[i].name.decode() for i in range(hali_loops_count())]


def _use_loops(name):
    """Go on with the loops of this name; the widest are in use from the start."""
    global _loops
    _loops = &hali_loops_all[<int>_loop_names().index(name)]


cdef int _check(uint8_t dtype, const char *payload, uint64_t length, uint64_t rows, uint64_t cols) noexcept nogil:
    """Which rule of its type a received payload breaks, if any."""
    cdef bint good = True
    cdef hali_int8 parts
    if dtype == _F32:
        good = hali_finite_f32(_loops, NULL, payload, length // 4)
    elif dtype == _BF16:
        good = _loops.all_finite_16(payload, length // 2, 0x7F80)
    elif dtype == _F16:
        good = (hali_all_scales_usable(payload, rows)
                and _loops.all_finite_16(payload + 4 * rows, rows * cols, 0x7C00))
    elif dtype == _Q8_0:
        good = hali_q8_0_finite(payload, rows * cols)
    elif dtype == _INT8_OUTLIERS:
        parts = hali_int8_parts(payload, rows, cols)
        good = (hali_int8_scales_usable(&parts)
                and _loops.all_finite_f32(payload + 4 * rows, rows * min(cols, <uint64_t>HALI_OUTLIERS)))
        if good and not (_loops.none_is_minus_128(parts.q, rows * cols) and hali_outliers_in_place(&parts)):
            return _MISPLACED
    return _FINE if good else _NOT_FINITE


cdef int _check_payload(const Header *h, const char *payload) except -1:
    """Refuse NaN, infinity, scales that would make one, and outliers that are not where they can be."""
    cdef int broken
    if h.payload_length < _RELEASE_FROM:
        broken = _check(h.dtype, payload, h.payload_length, h.rows, h.cols)
    else:
        with nogil:
            broken = _check(h.dtype, payload, h.payload_length, h.rows, h.cols)
    if broken == _NOT_FINITE:
        raise FrameError("not-finite", f"NaN, infinity or a scale of no use in a {DTYPE_NAMES[h.dtype]} payload")
    if broken == _MISPLACED:
        raise FrameError("outliers", "outlier columns do not ascend within the row, or an item is -128 or beside one")
    return 0


cdef _View _payload_view(payload, uint8_t dtype):
    """The input of encode: float32 for tensors, int32 for I32, and plain bytes taken as little-endian for all."""
    cdef _View view = _view(payload)
    if view.buffer.itemsize == 1 or dtype >= _RAW:
        return view
    if dtype == _I32 and not _has_type(&view.buffer, c"i", c"l"):
        raise TypeError("an i32 payload must be an int32 buffer or bytes")
    if dtype != _I32 and not _has_type(&view.buffer, c"f", c"f"):
        raise TypeError("a tensor payload must be a float32 buffer or bytes")
    return view


cdef bint _convert(uint8_t dtype, char *out, const void *src, uint64_t size, uint64_t rows, uint64_t cols) noexcept nogil:
    """Straight into the frame; false if the type has no bits for a value."""
    cdef hali_int8 parts
    if dtype == _F32:
        return hali_finite_f32(_loops, out, src, rows * cols)
    if dtype == _BF16:
        return _loops.f32_to_bf16(out, src, rows * cols)
    if dtype == _F16:
        return _loops.f32_to_f16_rows(out, out + 4 * rows, src, rows, cols)
    if dtype == _Q8_0:
        return _loops.f32_to_q8_0(out, src, rows * cols)
    if dtype == _INT8_OUTLIERS:
        parts = hali_int8_parts(out, rows, cols)
        return _loops.f32_to_int8_rows(&parts, src)
    if size > 0:
        memcpy(out, src, size)
    return True


cdef int _write_payload(const Header *h, char *out, _View view) except -1:
    cdef bint good
    if view.buffer.len < _RELEASE_FROM:
        good = _convert(h.dtype, out, view.buffer.buf, view.buffer.len, h.rows, h.cols)
    else:
        with nogil:
            good = _convert(h.dtype, out, view.buffer.buf, view.buffer.len, h.rows, h.cols)
    if not good:
        raise FrameError("not-finite", f"NaN, infinity or a value beyond {DTYPE_NAMES[h.dtype]} in the tensor")
    return 0


cdef void _widen(uint8_t dtype, char *out, const char *src, uint64_t rows, uint64_t cols) noexcept nogil:
    """A checked payload as float32."""
    cdef hali_int8 parts
    if dtype == _F32:
        memcpy(out, src, rows * cols * 4)
    elif dtype == _BF16:
        _loops.bf16_to_f32(out, src, rows * cols)
    elif dtype == _F16:
        _loops.f16_rows_to_f32(out, src, src + 4 * rows, rows, cols)
    elif dtype == _Q8_0:
        _loops.q8_0_to_f32(out, src, rows * cols)
    else:
        parts = hali_int8_parts(src, rows, cols)
        _loops.int8_rows_to_f32(out, &parts)
