"""Whatever the bytes, a GGUF header is read or refused: no other error, no long loop, little memory."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.wire.gguf import GgufError, GgufHeader, read_header
from tests.unit.wire.gguf_files import LLAMA, gguf, tensor

GOOD = gguf(LLAMA, [tensor("a", [64]), tensor("b", [64, 2], kind=8, offset=256)], data=512)


def _parse(data: bytes) -> GgufHeader | None:
    file, reads = io.BytesIO(data), 0

    def read(offset: int, count: int) -> bytes:
        nonlocal reads
        reads += 1
        assert offset >= 0 and 0 < count <= len(data), "it asks for what can be there"
        file.seek(offset)
        return file.read(count)

    try:
        return read_header(read, len(data))
    except GgufError:
        return None
    finally:
        assert reads <= 3 + len(data) // 1024


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
@settings(derandomize=True, max_examples=2000, deadline=None)
def test_a_damaged_header_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    header = _parse(bytes(data))
    assert header is None or header.tensor_count <= 2


@given(st.binary(max_size=300))
@settings(derandomize=True, max_examples=1000, deadline=None)
def test_garbage_after_the_magic_is_read_or_refused(tail: bytes) -> None:
    _parse(b"GGUF\x03\0\0\0" + tail)


@given(st.integers(0, len(GOOD)))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_cut_file_is_refused(end: int) -> None:
    weights_end = len(GOOD) - 512 + 256 + 136  # of "b", 128 elements of Q8_0; after it the file is padding
    assert (_parse(GOOD[:end]) is None) == (end < weights_end)
