"""Other ways to bring a header, positions, sequence ids and a payload into one buffer and out of it again.

One buffer, because that is what goes into a socket or a libp2p stream; from what the sender holds, nothing is shared.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass

import msgpack
import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.numpy
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]
Fields = tuple[int, int, int, int, int, int, bytes, int, int, int, int, int]
"""version, kind, dtype, flags, features, step, session, layer_start, layer_end, rows, cols, payload size."""

Message = tuple[Fields, Ints, Ints, Bytes]
HEADER = struct.Struct("<4sBBBBII16sIHHIIQII")


@dataclass(frozen=True)
class Carrier:
    """How to write a message and read it. `write` leaves the payload to `fill`, which writes it where it belongs."""

    write: Callable[[Fields, Ints, Ints, Callable[[Bytes], None]], object]
    read: Callable[..., Message]


Fill = Callable[[Bytes], None]


def filled(size: int, fill: Fill) -> Bytes:
    """The payload on its own, for those that copy it into their message."""
    body = np.empty(size, np.uint8)
    fill(body)
    return body


def hlf1_write(fields: Fields, positions: Ints, sequences: Ints, fill: Fill) -> Bytes:
    """hali's own format by struct and NumPy."""
    version, kind, dtype, flags, features, step, session, start, end, rows, cols, size = fields
    length = (64 + 9 * rows + 63) // 64 * 64
    data = np.empty(length + size, np.uint8)
    head = HEADER.pack(
        b"HLF1", version, kind, dtype, 0, flags, features, session, step, start, end, rows, cols, size, length, 0
    )
    data[:length] = np.frombuffer(b"".join([head, positions, sequences, bytes(length - 64 - 8 * rows)]), np.uint8)
    fill(data[length:])
    return data


def hlf1_read(data: Bytes) -> Message:
    magic, version, kind, dtype, _, flags, features, session, step, start, end, rows, cols, size, length, _ = (
        HEADER.unpack_from(data)
    )
    if magic != b"HLF1" or length + size != len(data):
        raise ValueError("length")
    ints = data[64 : 64 + 8 * rows].view(np.int32)
    fields = (version, kind, dtype, flags, features, step, session, start, end, rows, cols, size)
    return fields, ints[:rows], ints[rows:], data[length:]


def pickle_write(fields: Fields, positions: Ints, sequences: Ints, fill: Fill) -> bytes:
    return pickle.dumps((fields, positions, sequences, filled(fields[-1], fill)), protocol=5)


def outside_write(fields: Fields, positions: Ints, sequences: Ints, fill: Fill) -> bytes:
    """Protocol 5 with the payload out of band, then brought into one buffer. The ints are short: as bytes."""
    buffers: list[pickle.PickleBuffer] = []
    whole = (fields, positions.tobytes(), sequences.tobytes(), pickle.PickleBuffer(filled(fields[-1], fill)))
    head = pickle.dumps(whole, protocol=5, buffer_callback=buffers.append)
    return b"".join([len(head).to_bytes(8, "little"), head, *buffers])


def outside_read(data: bytes) -> Message:
    view = memoryview(data)
    end = 8 + int.from_bytes(view[:8], "little")
    fields, positions, sequences, body = pickle.loads(view[8:end], buffers=[view[end:]])  # noqa: S301 (our own)
    return fields, _ints(positions), _ints(sequences), np.frombuffer(body, np.uint8)


def _ints(data: bytes | memoryview) -> Ints:
    return np.frombuffer(data, np.int32)


def msgpack_write(fields: Fields, positions: Ints, sequences: Ints, fill: Fill) -> bytes:
    body = memoryview(filled(fields[-1], fill))
    return msgpack.packb((fields, memoryview(positions).cast("B"), memoryview(sequences).cast("B"), body))


def msgpack_read(data: bytes) -> Message:
    fields, positions, sequences, body = msgpack.unpackb(data, max_bin_len=1 << 30)
    return tuple(fields), _ints(positions), _ints(sequences), np.frombuffer(body, np.uint8)  # type: ignore[return-value]


class Words(msgspec.Struct, array_like=True, gc=False):
    """msgspec's best: an array of typed fields; memoryview fields are read without a copy."""

    fields: tuple[int, int, int, int, int, int, bytes, int, int, int, int, int]
    positions: memoryview
    sequences: memoryview
    body: memoryview


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Words)


def msgspec_write(fields: Fields, positions: Ints, sequences: Ints, fill: Fill) -> bytes:
    body = filled(fields[-1], fill)
    return _encoder.encode(Words(fields, memoryview(positions), memoryview(sequences), memoryview(body)))


def msgspec_read(data: bytes) -> Message:
    words = _decoder.decode(data)
    return words.fields, _ints(words.positions), _ints(words.sequences), np.frombuffer(words.body, np.uint8)


def safetensors_write(fields: Fields, positions: Ints, sequences: Ints, fill: Fill) -> bytes:
    numbers = [field.hex() if isinstance(field, bytes) else str(field) for field in fields]
    tensors = {"positions": positions, "sequences": sequences, "payload": filled(fields[-1], fill)}
    return safetensors.numpy.save(tensors, {str(place): number for place, number in enumerate(numbers)})


def safetensors_read(data: bytes) -> Message:
    """`load` gives no metadata: the header is JSON behind its length."""
    tensors = safetensors.numpy.load(data)
    head = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    fields = tuple(bytes.fromhex(head["6"]) if place == 6 else int(head[str(place)]) for place in range(12))
    return fields, tensors["positions"], tensors["sequences"], tensors["payload"]  # type: ignore[return-value]


def _protobuf_message() -> Callable[[], object]:
    """A message class built at run time: twelve header fields, packed ints, bytes."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="frame.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Frame")
    for place in range(12):
        kind = field.TYPE_BYTES if place == 6 else field.TYPE_UINT64
        message.field.add(name=f"f{place}", number=place + 1, type=kind, label=field.LABEL_OPTIONAL)
    for number, name in enumerate(("positions", "sequences", "payload"), 13):
        message.field.add(name=name, number=number, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Frame"))  # type: ignore[no-any-return]


_Protobuf = _protobuf_message()
_NAMES = tuple(f"f{place}" for place in range(12))


def protobuf_write(fields: Fields, positions: Ints, sequences: Ints, fill: Fill) -> bytes:
    body = filled(fields[-1], fill).tobytes()  # a bytes field takes bytes only
    named = dict(zip(_NAMES, fields, strict=True))
    message = _Protobuf(**named, positions=positions.tobytes(), sequences=sequences.tobytes(), payload=body)  # type: ignore[call-arg]
    return message.SerializeToString()  # type: ignore[attr-defined, no-any-return]


def protobuf_read(data: bytes) -> Message:
    message = _Protobuf.FromString(data)  # type: ignore[attr-defined]
    fields = tuple(getattr(message, name) for name in _NAMES)
    body = np.frombuffer(message.payload, np.uint8)
    return fields, _ints(message.positions), _ints(message.sequences), body  # type: ignore[return-value]


CARRIERS = {
    "numpy": Carrier(hlf1_write, hlf1_read),
    "pickle5": Carrier(pickle_write, pickle.loads),
    "pickle5-oob": Carrier(outside_write, outside_read),
    "msgpack": Carrier(msgpack_write, msgpack_read),
    "msgspec": Carrier(msgspec_write, msgspec_read),
    "safetensors": Carrier(safetensors_write, safetensors_read),
    "protobuf": Carrier(protobuf_write, protobuf_read),
}
