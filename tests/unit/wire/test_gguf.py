"""GGUF headers: what is read from good files, and how each kind of bad one is refused."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest

from hali.wire.gguf import MAX_HEADER, MAX_TENSORS, GgufError, GgufHeader, read_header, read_header_file
from tests.unit.wire.gguf_files import LLAMA, gguf, pair, string, tensor


def parse(data: bytes, size: int | None = None) -> GgufHeader:
    file = io.BytesIO(data)

    def read(offset: int, count: int) -> bytes:
        file.seek(offset)
        return file.read(count)

    return read_header(read, len(data) if size is None else size)


def reason(data: bytes, size: int | None = None) -> str:
    with pytest.raises(GgufError) as caught:
        parse(data, size)
    return caught.value.reason


def test_a_header_says_what_the_model_is() -> None:
    tensors = [tensor("token_embd.weight", [64, 3]), tensor("output.weight", [64, 2], offset=768)]
    header = parse(gguf(LLAMA, tensors, data=768 + 512))
    assert header == GgufHeader(
        version=3,
        tensor_count=2,
        parameters=64 * 5,
        header_size=header.header_size,
        architecture="llama",
        name="Tiny 🦙",
        size_label="1M",
        file_type=15,
        block_count=2,
        context_length=512,
        chat_template="{{ messages }}",
    )
    assert header.quantization == "Q4_K_M"


def test_what_a_file_does_not_say_is_none() -> None:
    header = parse(gguf([pair("general.architecture", 8, "x")]))
    assert (header.name, header.file_type, header.context_length, header.quantization) == (None, None, None, None)
    assert not header.has_chat_template


def test_an_unknown_file_type_has_no_name() -> None:
    header = parse(gguf([pair("general.architecture", 8, "x"), pair("general.file_type", 4, 999)]))
    assert (header.file_type, header.quantization) == (999, None)


def test_a_key_of_another_type_than_expected_says_nothing() -> None:
    pairs = [
        pair("general.architecture", 8, "x"),
        pair("x.block_count", 5, -3),
        pair("x.context_length", 8, "many"),
        pair("general.name", 4, 7),
    ]
    header = parse(gguf(pairs))
    assert (header.block_count, header.context_length, header.name) == (None, None, None)


def test_the_real_model_is_read(smollm2: Path) -> None:
    header = read_header_file(smollm2)
    assert (header.architecture, header.size_label, header.quantization) == ("llama", "135M", "Q4_1")
    assert (header.block_count, header.context_length, header.tensor_count) == (30, 8192, 272)
    assert header.has_chat_template
    assert 134e6 < header.parameters < 136e6


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "magic"),
        (b"GGUF", "magic"),
        (b"PK\x03\x04" + bytes(100), "magic"),
        (gguf(LLAMA, magic=b"GGML"), "magic"),
        (gguf(LLAMA, version=1), "version"),
        (gguf(LLAMA, version=3 << 24), "version"),
        (gguf(LLAMA, keys=1 << 63), "limit"),
        (gguf(LLAMA, keys=4000), "truncated"),
        (gguf(LLAMA, count=MAX_TENSORS + 1), "limit"),
        (gguf(LLAMA, count=10), "truncated"),
        (gguf([]), "architecture"),
        (gguf([pair("general.architecture", 8, "")]), "architecture"),
        (gguf([*LLAMA, LLAMA[0]]), "duplicate"),
        (gguf([string("k") + struct.pack("<I", 13) + bytes(100)]), "type"),
        (gguf([pair("k", 7, 2)]), "type"),
        (gguf([string("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(100)]), "type"),
        (gguf([string("k") + struct.pack("<IIQ", 9, 8, 1 << 62) + bytes(100)]), "limit"),
        (gguf([string("k") + struct.pack("<IIQ", 9, 8, 1 << 23) + bytes(100)]), "truncated"),
        (gguf([string("k") + struct.pack("<IIQ", 9, 12, 1 << 20) + bytes(100)]), "truncated"),
        (gguf([string("k") + struct.pack("<IQ", 8, (1 << 64) - 1) + bytes(100)]), "limit"),
        (gguf([struct.pack("<Q", 1 << 63)]), "limit"),
        (gguf([*LLAMA, pair("general.alignment", 4, 0)]), "alignment"),
        (gguf([*LLAMA, pair("general.alignment", 4, 33)]), "alignment"),
        (gguf([*LLAMA, pair("general.alignment", 8, "32")]), "alignment"),
        (gguf(LLAMA, [tensor("t", [])]), "shape"),
        (gguf(LLAMA, [tensor("t", [1, 1, 1, 1, 1])]), "shape"),
        (gguf(LLAMA, [tensor("t", [0])]), "shape"),
        (gguf(LLAMA, [tensor("t", [1 << 40, 1 << 40])]), "shape"),
        (gguf(LLAMA, [tensor("t", [33], kind=2)], data=1000), "shape"),
        (gguf(LLAMA, [tensor("t", [32], offset=7)], data=1000), "offset"),
        (gguf(LLAMA, [tensor("t", [32], offset=1 << 40)], data=1000), "truncated"),
        (gguf(LLAMA, [tensor("t", [1024])], data=100), "truncated"),
        (gguf(LLAMA, [tensor("t", [1]), tensor("t", [1], offset=32)], data=100), "duplicate"),
        (gguf(LLAMA, [tensor("t" * 65, [1])], data=100), "limit"),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_reason(data: bytes, expected: str) -> None:
    assert reason(data) == expected


def test_a_file_that_ends_inside_its_header_is_truncated_wherever_it_ends() -> None:
    whole = gguf(LLAMA, [tensor("t", [8])], data=32)
    end = parse(whole).header_size
    assert {reason(whole[:cut]) for cut in range(24, end)} == {"truncated"}


def test_a_file_that_shrinks_while_it_is_read_is_truncated() -> None:
    whole = gguf(LLAMA)
    assert reason(whole[:100], size=len(whole)) == "truncated"


def test_a_header_beyond_the_budget_is_refused_without_reading_it() -> None:
    asked = 0

    def read(offset: int, count: int) -> bytes:
        nonlocal asked
        asked += count
        head = gguf([string("k") + struct.pack("<IIQ", 9, 0, MAX_HEADER - 10)])
        return head[offset : offset + count].ljust(count, b"\0")

    with pytest.raises(GgufError) as caught:
        read_header(read, 1 << 40)
    assert caught.value.reason == "budget"
    assert asked < 4 << 20


def test_bytes_that_are_no_text_do_not_stop_the_reader() -> None:
    header = parse(gguf([pair("general.architecture", 8, "x"), pair("general.name", 8, b"\xff\xfe")]))  # type: ignore[arg-type]
    assert header.name == "��"


def test_the_later_parts_of_a_split_need_not_say_what_they_are_parts_of() -> None:
    header = parse(gguf([pair("split.no", 2, 1), pair("split.count", 2, 3)]))
    assert (header.architecture, header.split_count) == ("", 3)
    with pytest.raises(GgufError, match="architecture"):
        parse(gguf([pair("split.no", 2, 0), pair("split.count", 2, 3)]))


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(OSError, match="not a regular file"):
        read_header_file(tmp_path / "m.gguf")
