"""GGUF headers: what a model says about itself, read with a budget and without belief in any number. Sans-I/O.

Format: ggml's docs/gguf.md, versions 2 and 3, little-endian. Only the header is read, never the weights.
"""

from __future__ import annotations

import errno
import math
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hali.model.errors import Failed
from hali.wire.ggml import ALIGNMENT_KEY, FILE_TYPES, TENSOR_TYPES

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER = 128 * 1024 * 1024  # the largest vocabularies (256 k tokens with merges) take 15 MB
MAX_KEYS = 4096  # ordinary files have 20 to 60
MAX_TENSORS = 65_536  # the largest mixtures of experts have a few thousand
MAX_KEY = 1024  # the format allows 65,535; the longest real key is under 60
MAX_STRING = 4 * 1024 * 1024  # chat templates reach 30 KB
MAX_NAME = 64  # GGML_MAX_NAME: llama.cpp refuses longer tensor names
MAX_DIMS = 4
_WINDOW = 1024 * 1024

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9

Read = Callable[[int, int], bytes]


class GgufError(Failed):
    """Not a GGUF file, or a header that must not be believed; `reason` is a short word for tests and logs."""

    code = "gguf"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, details={"reason": reason})
        self.reason = reason


class GgufHeader(msgspec.Struct, frozen=True):
    """What a header says; None where it says nothing. Texts are as written in the file: untrusted."""

    version: int
    tensor_count: int
    parameters: int  # elements of all tensors
    header_size: int  # bytes before the (aligned) tensor data
    architecture: str  # empty in the later parts of a split
    name: str | None = None
    size_label: str | None = None
    basename: str | None = None
    finetune: str | None = None
    license: str | None = None
    file_type: int | None = None
    block_count: int | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    split_count: int | None = None
    kind: str | None = None  # `model`, `mmproj`, `adapter`, …
    chat_template: str | None = None  # Jinja
    head_count: int | None = None  # of all layers; None also where they differ
    key_length: int | None = None  # of one head
    expert_used_count: int | None = None

    @property
    def has_chat_template(self) -> bool:
        """False also for an empty one."""
        return bool(self.chat_template)

    @property
    def is_projector(self) -> bool:
        """The vision or audio part of another model: cannot answer alone (llama.cpp's `clip` files)."""
        return self.kind == "mmproj" or self.architecture == "clip"

    @property
    def quantization(self) -> str | None:
        """`Q4_K_M`, `F16`, …: llama.cpp's name of the file type."""
        return None if self.file_type is None else FILE_TYPES.get(self.file_type)


class Tensor(msgspec.Struct, frozen=True):
    """One entry of the table of tensors. `size` is 0 for a type that we do not know."""

    name: str
    elements: int
    offset: int  # bytes from the beginning of the tensor data
    size: int  # bytes


class GgufLayout(msgspec.Struct, frozen=True):
    """Where a file of `size` bytes keeps what: the header up to `data`, then the tensors, which all lie inside the file."""

    header: GgufHeader
    data: int
    size: int
    tensors: tuple[Tensor, ...]


class _Cursor:
    """Reads forward through a window; every length is checked against the file and the budget before it is read."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._limit = min(size, MAX_HEADER)
        self._truncated = size <= MAX_HEADER  # which of the two limits it is
        self._start, self._window = 0, b""
        self.at = 0

    def need(self, count: int) -> None:
        """GgufError unless `count` more bytes can be there."""
        if count > self._limit - self.at:
            if self._truncated:
                raise GgufError("truncated", f"the header wants {count} bytes at {self.at}, and the file ends before")
            raise GgufError("budget", f"a header of more than {MAX_HEADER} bytes")

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        self.need(count)
        offset = self.at - self._start
        if offset + count > len(self._window):
            self._fill(count)
            offset = 0
        self.at += count
        return self._window[offset : offset + count]

    def _fill(self, count: int) -> None:
        wanted = min(max(count, _WINDOW), self._limit - self.at)
        self._start, self._window = self.at, self._read(self.at, wanted)
        if len(self._window) < count:
            raise GgufError("truncated", f"the file ends at {self.at + len(self._window)}, inside its header")

    def skip(self, count: int) -> None:
        """Pass over bytes without reading them."""
        self.need(count)
        self.at += count
        if self.at - self._start > len(self._window):
            self._start, self._window = self.at, b""

    def number(self, code: str) -> Any:
        """One little-endian number of a struct code."""
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def length(self, limit: int, what: str) -> int:
        """A u64 that must be a sane length."""
        value = int(self.number("Q"))
        if value > limit:
            raise GgufError("limit", f"{what} of {value}, at most {limit}")
        return value

    def text(self, limit: int, what: str) -> str:
        """A string; bytes that are no UTF-8 become U+FFFD."""
        return self.take(self.length(limit, what)).decode("utf-8", "replace")


def read_header(read: Read, size: int) -> GgufHeader:
    """The header of a file of `size` bytes, parts of which `read(offset, count)` gives; GgufError if it cannot be."""
    return read_layout(read, size).header


def read_layout(read: Read, size: int) -> GgufLayout:
    """As `read_header`, with the place of every tensor."""
    cursor = _Cursor(read, size)
    if size < 24 or cursor.take(4) != MAGIC:
        raise GgufError("magic", "not a GGUF file")
    version = _version(cursor)
    tensors = cursor.length(MAX_TENSORS, "tensor count")
    keys = cursor.length(MAX_KEYS, "key count")
    values: dict[str, Any] = {}
    _read_values(cursor, keys, values)
    alignment = _alignment(values)
    infos = [_read_tensor(cursor, alignment) for _ in range(tensors)]
    data = -(-cursor.at // alignment) * alignment
    _check_tensors(infos, size, data)
    parameters = sum(tensor.elements for tensor in infos)
    header = _header(values, version=version, tensors=tensors, parameters=parameters, header_size=cursor.at)
    return GgufLayout(header, data, size, tuple(infos))


def read_header_file(path: Path) -> GgufHeader:
    """`read_header` of a file; OSError if it cannot be opened."""
    return read_layout_file(path).header


def read_layout_file(path: Path) -> GgufLayout:
    """`read_layout` of a file; OSError if it cannot be opened or is none: a pipe would be waited for."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with path.open("rb") as file:
        size = file.seek(0, 2)

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        return read_layout(read, size)


def _version(cursor: _Cursor) -> int:
    version = int(cursor.number("I"))
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        why = "big-endian" if swapped in VERSIONS else "unknown"
        raise GgufError("version", f"GGUF version {version} ({why}); 2 and 3 can be read")
    return version


def _read_values(cursor: _Cursor, count: int, values: dict[str, Any]) -> None:
    """Fill `values` with all keys, as far as the bytes reach; scalars and strings with their value, arrays as None."""
    for _ in range(count):
        key = cursor.text(MAX_KEY, "key length")
        if key in values:
            raise GgufError("duplicate", f"key {key[:60]!r} is there twice")
        values[key] = _read_value(cursor, int(cursor.number("I")), key)


def _read_value(cursor: _Cursor, kind: int, key: str) -> Any:
    if kind == _STRING:
        return cursor.text(MAX_STRING, f"string in {key[:60]!r}")
    if kind == _ARRAY:
        return _skip_array(cursor, key)
    if kind not in _SCALARS:
        raise GgufError("type", f"key {key[:60]!r} has the unknown type {kind}")
    value = cursor.number(_SCALARS[kind])
    if kind == _BOOL and value > 1:
        raise GgufError("type", f"key {key[:60]!r} is neither true nor false")
    return bool(value) if kind == _BOOL else value


def _skip_array(cursor: _Cursor, key: str) -> None:
    kind = int(cursor.number("I"))
    if kind in _SCALARS:
        width = struct.calcsize("<" + _SCALARS[kind])
        cursor.skip(cursor.length(MAX_HEADER // width, f"array in {key[:60]!r}") * width)
    elif kind == _STRING:
        count = cursor.length(MAX_HEADER // 8, f"array in {key[:60]!r}")
        cursor.need(count * 8)  # each string has at least its length: a huge count cannot make us loop
        for _ in range(count):
            cursor.skip(cursor.length(MAX_STRING, f"string in {key[:60]!r}"))
    else:
        raise GgufError("type", f"key {key[:60]!r} is an array of the unknown type {kind}")


def _alignment(values: dict[str, Any]) -> int:
    alignment = values.get(ALIGNMENT_KEY, 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise GgufError("alignment", f"alignment {alignment!r} is no power of two from 8 to 65,536")
    return alignment


def _read_tensor(cursor: _Cursor, alignment: int) -> Tensor:
    name = cursor.text(MAX_NAME, "tensor name")
    dims = int(cursor.number("I"))
    if not 1 <= dims <= MAX_DIMS:
        raise GgufError("shape", f"tensor {name!r} has {dims} dimensions")
    shape = [int(cursor.number("Q")) for _ in range(dims)]
    elements = math.prod(shape)
    if elements >= 1 << 62 or 0 in shape:
        raise GgufError("shape", f"tensor {name!r} has the impossible shape {shape}")
    kind, offset = int(cursor.number("I")), int(cursor.number("Q"))
    if offset % alignment:
        raise GgufError("offset", f"tensor {name!r} is not aligned to {alignment}")
    block, width = TENSOR_TYPES.get(kind, (1, 0))
    if shape[0] % block:
        raise GgufError("shape", f"tensor {name!r} has rows of {shape[0]}, no multiple of {block}")
    return Tensor(name, elements, offset, elements // block * width)


def _check_tensors(infos: list[Tensor], size: int, data: int) -> None:
    """Names differ and each tensor lies inside the file, whose tensor data begins at `data`."""
    if len({tensor.name for tensor in infos}) != len(infos):
        raise GgufError("duplicate", "two tensors have the same name")
    for tensor in infos:
        if (end := data + tensor.offset + tensor.size) > size:
            raise GgufError("truncated", f"tensor {tensor.name!r} ends at {end}, the file at {size}")


def _header(values: dict[str, Any], *, version: int, tensors: int, parameters: int, header_size: int) -> GgufHeader:
    architecture = _text(values, "general.architecture")
    if not architecture and not _count(values, "split.no"):  # only the first part of a split says what it is
        raise GgufError("architecture", "the header names no architecture")
    return GgufHeader(
        version=version,
        tensor_count=tensors,
        parameters=parameters,
        header_size=header_size,
        architecture=architecture or "",
        name=_text(values, "general.name"),
        size_label=_text(values, "general.size_label"),
        basename=_text(values, "general.basename"),
        finetune=_text(values, "general.finetune"),
        license=_text(values, "general.license"),
        file_type=_count(values, "general.file_type"),
        block_count=_count(values, f"{architecture}.block_count"),
        context_length=_count(values, f"{architecture}.context_length"),
        embedding_length=_count(values, f"{architecture}.embedding_length"),
        split_count=_count(values, "split.count"),
        kind=_text(values, "general.type"),
        chat_template=_text(values, "tokenizer.chat_template"),
        head_count=_count(values, f"{architecture}.attention.head_count"),
        key_length=_count(values, f"{architecture}.attention.key_length"),
        expert_used_count=_count(values, f"{architecture}.expert_used_count"),
    )


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    return value if isinstance(value, str) else None


def _count(values: dict[str, Any], key: str) -> int | None:
    """A number that counts something: a negative one says nothing."""
    value = values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
