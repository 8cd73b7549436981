"""Which bytes of a GGUF file the layers `[start, end)` need, and which pieces cover them. Pure.

Every byte behind the header belongs to exactly one tensor: the padding up to the next tensor counts to the one before it. So the
ranges of layers that follow each other cover the whole file, whatever types its tensors have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from hali.model.errors import UsageError
from hali.model.layers import Layers, format_layers, merged
from hali.model.units import PIECE
from hali.wire.gguf import GgufError, GgufLayout

Span = tuple[int, int]  # bytes from, up to and without

_BLOCK = re.compile(r"blk\.(\d{1,5})\.", re.ASCII)  # llama.cpp's names (gguf-py, constants.py)
_EMBEDDING = re.compile(r"token_embd|token_types|position_embd|per_layer_token_embd")
_OUTPUT = "output"  # output.weight, output_norm.weight, …


def needed_spans(layout: GgufLayout, layers: Layers) -> list[Span]:
    """The bytes that a node needs to run `layers`, in order, touching ones joined; UsageError beyond the last layer.

    The header and what belongs to no layer are always among them, the embedding for the first layer, the output for the last one.
    """
    count = layout.header.block_count
    if not count:
        raise GgufError("layers", "the header does not say how many layers the model has")
    if layers[1] > count:
        raise UsageError(f"layers {format_layers([layers])} of a model that has {count}", hint=f"0-{count} are all")
    needs = _rule(layers, count, ties_output=not any(t.name == "output.weight" for t in layout.tensors))
    spans = [span for name, span in _tensor_spans(layout) if needs(name)]
    return list(merged([(0, layout.data), *spans]))


def pieces_of(spans: Sequence[Span], piece: int = PIECE) -> frozenset[int]:
    """The pieces that have bytes of any of `spans`."""
    return frozenset(i for start, end in spans if start < end for i in range(start // piece, (end - 1) // piece + 1))


def _rule(layers: Layers, count: int, *, ties_output: bool) -> Callable[[str], bool]:
    """Whether a tensor of that name is needed. A model without an output matrix uses its embedding as one."""
    first, last = layers[0] == 0, layers[1] == count

    def needs(name: str) -> bool:
        if match := _BLOCK.match(name):
            # Layers beyond the count (for the prediction of further tokens) are run, if at all, behind the last one.
            return layers[0] <= min(int(match[1]), count - 1) < layers[1]
        if _EMBEDDING.match(name):
            return first or (last and ties_output and name.startswith("token_embd."))
        return last if name.startswith(_OUTPUT) else True

    return needs


def _tensor_spans(layout: GgufLayout) -> Iterable[tuple[str, Span]]:
    """Each tensor with its bytes and the padding behind it; the first also has what lies before it, the last all up to the end."""
    tensors = sorted(layout.tensors, key=lambda tensor: tensor.offset)
    starts = [layout.data + tensor.offset for tensor in tensors]
    for index, tensor in enumerate(tensors):
        start = starts[index] if index else layout.data
        # Tensors of a damaged or strange file may overlap: then both have the bytes.
        end = starts[index + 1] if index + 1 < len(tensors) else layout.size
        yield tensor.name, (start, max(end, starts[index] + tensor.size))
