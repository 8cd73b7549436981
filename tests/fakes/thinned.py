"""A copy of a GGUF model without some of its layers: it says mostly the same, and is a draft model for the whole one."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter, ReaderTensor


def thinned(source: Path, target: Path, *, without: Collection[int]) -> Path:
    """`source` without these layers, at `target`."""
    reader = GGUFReader(source)
    arch = str(reader.fields["general.architecture"].contents())
    layers = int(reader.fields[f"{arch}.block_count"].contents())
    kept = {layer: number for number, layer in enumerate(it for it in range(layers) if it not in without)}
    writer = GGUFWriter(target, arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = len(kept) if name == f"{arch}.block_count" else field.contents()
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        if name := _renamed(tensor, kept):
            writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _renamed(tensor: ReaderTensor, kept: dict[int, int]) -> str | None:
    """With its layer's new number; None if that is not kept."""
    found = re.fullmatch(r"blk\.(\d+)\.(.+)", tensor.name)
    if found is None:
        return str(tensor.name)
    layer = int(found[1])
    return f"blk.{kept[layer]}.{found[2]}" if layer in kept else None
