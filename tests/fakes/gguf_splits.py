"""A GGUF file cut into parts as llama.cpp's `llama-gguf-split` does it: metadata in the first, some of the tensors in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter, ReaderField, ReaderTensor

from hali.model.splits import stem


def split(whole: Path, folder: Path, count: int) -> list[Path]:
    """The parts of `whole` in `folder`."""
    reader = GGUFReader(whole)
    per_part = -(-len(reader.tensors) // count)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = folder / f"{stem(whole.name)}-{number + 1:05}-of-{count:05}.gguf"
        tensors = reader.tensors[number * per_part : (number + 1) * per_part]
        _write(path, reader, tensors, number, count)
        paths.append(path)
    return paths


def _write(path: Path, reader: GGUFReader, tensors: Sequence[ReaderTensor], number: int, count: int) -> None:
    writer = GGUFWriter(path, "llama")
    writer.kv_data[0].clear()  # the later parts say nothing of the model
    if number == 0:
        for field in reader.fields.values():
            _copy(writer, field)
    writer.add_uint16("split.no", number)
    writer.add_uint16("split.count", count)
    writer.add_int32("split.tensors.count", len(reader.tensors))
    for tensor in tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_shape=tensor.data.shape, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy(writer: GGUFWriter, field: ReaderField) -> None:
    if not field.name.startswith("GGUF."):  # those stand for the header itself
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, inner)
