# A decoded frame. Included by frames.pyx.


cdef class Frame:
    cdef readonly int version, kind, dtype
    cdef readonly uint32_t flags, features, step, rows, cols
    cdef readonly uint16_t layer_start, layer_end
    cdef readonly bytes session
    cdef _View view
    cdef uint64_t ext_length, rows_at, payload_at, payload_length

    def __init__(self):
        raise TypeError("frames are made by decode()")

    def __repr__(self):
        return (
            f"<Frame {KIND_NAMES[self.kind]} session={self.session.hex()[:8]} step={self.step} "
            f"layers=[{self.layer_start}, {self.layer_end}) {self.rows}×{self.cols} {DTYPE_NAMES[self.dtype]}>"
        )

    # Made when they are asked for: most readers want one or two of the five, and each costs as much as the checks of
    # a small frame.
    cdef object part(self, uint64_t at, uint64_t count, char letter):
        return _memory(self.view, <char *>self.view.buffer.buf + at, count, letter, True)

    @property
    def ext(self):
        return self.part(_FIXED, self.ext_length, c"B")

    @property
    def positions(self):
        return self.part(self.rows_at, self.rows, c"i")

    @property
    def sequences(self):
        return self.part(self.rows_at + 4 * <uint64_t>self.rows, self.rows, c"i")

    @property
    def outputs(self):
        return self.part(self.rows_at + 8 * <uint64_t>self.rows, self.rows, c"B")

    @property
    def payload(self):
        if self.dtype == _F32:
            return self.part(self.payload_at, self.payload_length // 4, c"f")
        if self.dtype == _I32:
            return self.part(self.payload_at, self.payload_length // 4, c"i")
        return self.part(self.payload_at, self.payload_length, c"B")

    def to_f32(self, into=None):
        cdef _View room
        cdef const char *src = <const char *>self.view.buffer.buf + self.payload_at
        cdef char *out
        cdef uint64_t rows = self.rows, cols = self.cols
        if self.dtype > _INT8_OUTLIERS:
            raise FrameError("unsupported-dtype", f"a {DTYPE_NAMES[self.dtype]} payload holds no tensor")
        if into is None and self.dtype == _F32:
            return self.payload
        room = _view(_fresh(rows * cols * 4)) if into is None else _room(into, rows * cols * 4, "a tensor")
        out = <char *>room.buffer.buf
        if rows * cols * 4 < _RELEASE_FROM:
            _widen(self.dtype, out, src, rows, cols)
        else:
            with nogil:
                _widen(self.dtype, out, src, rows, cols)
        return _memory(room, out, rows * cols, c"f", False)
