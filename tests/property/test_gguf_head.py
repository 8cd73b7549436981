"""The first bytes of a file that strangers hand to a registry: read or refused, never anything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hali.wire.gguf import GgufError
from hali.wire.gguf_head import GgufHead, read_head
from tests.unit.wire.gguf_files import LLAMA, gguf, tensor

WHOLE = gguf(LLAMA, [tensor("a", [32])], data=64)


def outcome(data: bytes, size: int) -> GgufHead | str:
    try:
        return read_head(data, size)
    except GgufError as exc:
        return exc.reason


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 2**40))
def test_changed_bytes_and_sizes_are_read_or_refused(changes: list[tuple[int, int]], size: int) -> None:
    data = bytearray(WHOLE)
    for at, byte in changes:
        data[at] = byte
    found = outcome(bytes(data), size)
    assert isinstance(found, str) or found.architecture


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_magic_are_read_or_refused(data: bytes) -> None:
    found = outcome(b"GGUF\x03\x00\x00\x00" + data, 10**9)
    assert isinstance(found, str) or found.architecture


@given(st.integers(0, len(WHOLE)))
def test_more_bytes_never_contradict_fewer(at: int) -> None:
    part, whole = outcome(WHOLE[:at], len(WHOLE)), outcome(WHOLE, len(WHOLE))
    assert isinstance(whole, GgufHead)
    if isinstance(part, GgufHead):
        assert part.architecture == whole.architecture
        assert part.quantization in (None, whole.quantization)
