"""A GGUF file taken apart into keys, tensors and data, so that tests can change one thing and put it together again."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@dataclass
class Key:
    """One key with the type and the bytes of its value (behind the type)."""

    name: bytes
    kind: int
    value: bytes

    def array(self) -> tuple[int, int, bytes]:
        """(type of the elements, how many, their bytes)."""
        kind, count = struct.unpack_from("<IQ", self.value)
        return kind, count, self.value[12:]

    def texts(self) -> list[bytes]:
        """The elements of an array of strings."""
        _, count, rest = self.array()
        found, at = [], 0
        for _ in range(count):
            (length,) = struct.unpack_from("<Q", rest, at)
            found.append(rest[at + 8 : at + 8 + length])
            at += 8 + length
        return found


@dataclass
class TensorEntry:
    """One tensor of the table."""

    name: bytes
    shape: list[int]
    kind: int
    offset: int


@dataclass
class Image:
    """A whole file."""

    keys: list[Key]
    tensors: list[TensorEntry]
    data: bytes
    version: int = 3
    counts: tuple[int, int] | None = None  # (tensors, keys) to claim; None = as many as there are
    _at: int = field(default=0, repr=False)

    def key(self, name: str) -> Key:
        """The key of that name."""
        return next(key for key in self.keys if key.name == name.encode())

    def pack(self) -> bytes:
        """The bytes of the file."""
        return self.header() + self.data

    def header(self) -> bytes:
        """All before the data, padded."""
        tensors, keys = self.counts or (len(self.tensors), len(self.keys))
        out = bytearray(struct.pack("<4sIQQ", b"GGUF", self.version, tensors, keys))
        for key in self.keys:
            out += text(key.name) + struct.pack("<I", key.kind) + key.value
        for tensor in self.tensors:
            out += text(tensor.name) + struct.pack("<I", len(tensor.shape))
            out += struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, tensor.kind, tensor.offset)
        return bytes(out + bytes(-len(out) % ALIGNMENT))


def text(data: bytes) -> bytes:
    """A string with its length in front."""
    return struct.pack("<Q", len(data)) + data


def texts(items: list[bytes]) -> bytes:
    """The value of an array of strings."""
    return struct.pack("<IQ", STRING, len(items)) + b"".join(map(text, items))


def numbers(kind: int, code: str, items: list[float] | list[int]) -> bytes:
    """The value of an array of numbers of a struct code."""
    return struct.pack(f"<IQ{len(items)}{code}", kind, len(items), *items)


def unpack(data: bytes) -> Image:
    """A well-formed file, with its data as one piece."""
    _, version, tensors, keys = struct.unpack_from("<4sIQQ", data)
    reader = _Reader(data, 24)
    image = Image([reader.key() for _ in range(keys)], [reader.tensor() for _ in range(tensors)], b"", version)
    image.data = data[reader.at + -reader.at % ALIGNMENT :]
    assert image.pack() == data
    return image


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def take(self, code: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return values

    def text(self) -> bytes:
        (length,) = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at]

    def key(self) -> Key:
        name = self.text()
        (kind,) = self.take("I")
        start = self.at
        self._skip(kind)
        return Key(name, kind, self.data[start : self.at])

    def _skip(self, kind: int) -> None:
        if kind == STRING:
            self.text()
        elif kind == ARRAY:
            inner, count = self.take("IQ")
            for _ in range(count):
                self._skip(inner)
        else:
            self.at += _WIDTHS[kind]

    def tensor(self) -> TensorEntry:
        name = self.text()
        (dims,) = self.take("I")
        shape = list(self.take(f"{dims}Q"))
        kind, offset = self.take("IQ")
        return TensorEntry(name, shape, kind, offset)
