# Python buffers coming in and going out. Included by frames.pyx.


@cython.freelist(16)
cdef class _View:
    """One buffer, held for as long as this object lives and given back on every path."""

    cdef Py_buffer buffer
    cdef bint held

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)


cdef _View _view(obj, int flags=0):
    cdef _View view = _View.__new__(_View)
    PyObject_GetBuffer(obj, &view.buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags)
    view.held = True
    return view


cdef bint _has_type(const Py_buffer *buffer, char letter, char other) noexcept:
    """Whether the items are 4 bytes of one of these two struct types, in this machine's order."""
    cdef const char *code = buffer.format
    if buffer.itemsize != 4 or code == NULL:
        return False
    while code[0] == c"@" or code[0] == c"=" or code[0] == c"<":
        code += 1
    return (code[0] == letter or code[0] == other) and code[1] == 0


@cython.freelist(16)
cdef class _Part:
    """Items inside a held buffer, as an exporter for memoryview: cheaper than slicing and casting one."""

    cdef _View owner
    cdef char *data
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]
    cdef char *format
    cdef bint readonly

    def __getbuffer__(self, Py_buffer *asked, int flags):
        if self.readonly and flags & PyBUF_WRITABLE:
            raise BufferError("a received frame is read-only")
        asked.obj = self
        asked.buf = self.data
        asked.len = self.shape[0] * self.strides[0]
        asked.itemsize = self.strides[0]
        asked.readonly = self.readonly
        asked.ndim = 1
        asked.format = self.format if flags & PyBUF_FORMAT else NULL
        asked.shape = self.shape if flags & PyBUF_ND else NULL
        asked.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        asked.suboffsets = NULL
        asked.internal = NULL


cdef object _memory(_View owner, const void *data, uint64_t count, char letter, bint readonly):
    """A memoryview of count items of type B, f or i."""
    cdef _Part part = _Part.__new__(_Part)
    part.owner = owner
    part.data = <char *>data
    part.shape[0] = count
    part.strides[0] = 1 if letter == c"B" else 4
    part.format = b"f" if letter == c"f" else b"i" if letter == c"i" else b"B"
    part.readonly = readonly
    return PyMemoryView_FromObject(part)


cdef _View _integers(values, str name):
    """An int32 buffer as it is, or any iterable of ints packed into one."""
    cdef _View view
    if not PyObject_CheckBuffer(values):
        try:
            values = array("i", values)
        except OverflowError as error:
            raise FrameError(_FIELD_CODE[name], f"{name} must fit 32 bits: {error}") from None
    view = _view(values)
    if not _has_type(&view.buffer, c"i", c"l"):
        raise TypeError(f"{name} must be an int32 buffer or a sequence of int")
    return view


_FIELD_CODE = {"positions": "position", "sequences": "sequence"}


cdef uint64_t _bounded(value, uint64_t limit, str name) except? 0xFFFFFFFF:
    cdef int overflow = 0
    cdef long long number
    if type(value) is not int:
        value = PyNumber_Index(value)  # C would cut a float down to an integer
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow or number < 0 or <uint64_t>number > limit:
        raise FrameError("limit", f"{name} is {value}, outside 0 to {limit}")
    return number


cdef bytearray _fresh(uint64_t size):
    """A new buffer, not zeroed: everything in it is written once only."""
    cdef bytearray made = bytearray()
    PyByteArray_Resize(made, size)
    hali_prefer_huge_pages(PyByteArray_AS_STRING(made), size)
    return made


cdef _View _room(into, uint64_t size, str what):
    """The caller's own buffer, if it is large enough."""
    cdef _View view = _view(into, PyBUF_WRITABLE)
    if <uint64_t>view.buffer.len < size:
        raise FrameError("limit", f"a buffer of {view.buffer.len} bytes for {what} of {size}")
    return view
