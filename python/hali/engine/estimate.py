"""How much memory a model takes when it runs: weights, KV cache, compute buffers, from its header. Pure; loader and planner use it.

Checked against what llama.cpp allocates, within 10 % (`tests/integration/test_engine_estimate.py`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from hali.engine.options import DEFAULT_CONTEXT, EngineOptions, KvType
from hali.model.layers import Layers
from hali.model.units import MIB
from hali.wire.gguf import GgufLayout, Tensor

F32 = 4
KV_WIDTH: dict[KvType, float] = {"f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32}  # bytes of an element
CELL_STEP = 256  # llama.cpp rounds the cells of a KV cache up to a multiple (GGML_PAD in llama-context.cpp)
# Elements of a head where the header does not say: the smallest in use, so that scores are not underestimated.
HEAD = 64
STATES = 128  # of Mamba 2 as it is trained
CACHE = 1 << 30  # of kept beginnings, and never more than a full KV cache (retained.py)
PROCESS = 80 * MIB  # of a worker without a model: Python, llama.cpp's code, the vocabulary's strings
ROOM = (
    256 * MIB
)  # of KV cells beyond two contexts: little beside the models worth sharing, and 11,000 tokens of a small one
GPU_MARGIN = 1 << 30  # left on each: driver, scratch of kernels, screen; as much as llama.cpp's own --fit (common.h)
MIN_CONTEXT = 1024  # a shorter one would refuse prompts that every client sends: then the model does not fit

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(.+)\.weight", re.ASCII)


class Layer(msgspec.Struct, frozen=True):
    """One block: bytes of its weights, elements of K and of V for each token, of a recurrent state for each sequence."""

    weights: int
    k: int = 0
    v: int = 0
    state: int = 0


class Shape(msgspec.Struct, frozen=True):
    """What of a model decides how much memory it takes; widths in elements."""

    layers: tuple[Layer, ...]
    embedding: int  # bytes
    output: int  # bytes; 0 where the embedding is the output matrix too
    width: int
    vocabulary: int
    heads: int
    inner: int  # of the feed-forward part that runs for a token, all its experts together
    context: int  # that it was trained with

    @property
    def weights(self) -> int:
        """Bytes of all."""
        return sum(layer.weights for layer in self.layers) + self.embedding + self.output


class Memory(msgspec.Struct, frozen=True):
    """Bytes of a running model by what they are for."""

    weights: int
    kv: int
    compute: int
    output: int
    cache: int = 0  # at most: of the beginnings of past texts, which fill it in time
    process: int = PROCESS

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.kv + self.compute + self.output + self.cache + self.process


def shape_of(layouts: Sequence[GgufLayout]) -> Shape:
    """Of a model in one file or in the parts of a split, the first of which has the header."""
    header = layouts[0].header
    tensors = [tensor for layout in layouts for tensor in layout.tensors]
    named = {tensor.name: tensor for tensor in tensors}
    width = header.embedding_length or 1
    blocks: dict[int, dict[str, Tensor]] = defaultdict(dict)
    sizes: dict[int, int] = defaultdict(int)
    for tensor in tensors:
        if match := re.match(r"blk\.(\d{1,5})\.", tensor.name, re.ASCII):
            sizes[int(match[1])] += tensor.size
        if match := _BLOCK.fullmatch(tensor.name):
            blocks[int(match[1])][match[2]] = tensor
    queries = max((_outs(block, width)[0] for block in blocks.values()), default=0)
    head = header.key_length or (width // header.head_count if header.head_count else HEAD)
    rest = sum(t.size for t in tensors if not t.name.startswith("blk."))
    output = named["output.weight"].size if "output.weight" in named else 0
    return Shape(
        layers=tuple(_layer(blocks[index], sizes[index], width) for index in sorted(sizes)),
        embedding=rest - output,
        output=output,
        width=width,
        vocabulary=named["token_embd.weight"].elements // width if "token_embd.weight" in named else 0,
        heads=header.head_count or -(-queries // head),
        inner=max((_inner(block, width, header.expert_used_count or 1) for block in blocks.values()), default=0),
        context=header.context_length or DEFAULT_CONTEXT,
    )


def _outs(block: dict[str, Tensor], width: int) -> tuple[int, int, int]:
    """Elements of Q, K and V that a layer makes of a token. What is cached of latent attention (DeepSeek) stands for K."""

    def out(name: str) -> int:
        return block[name].elements // width if name in block else 0

    if "attn_kv_a_mqa" in block:
        return out("attn_output"), out("attn_kv_a_mqa"), out("attn_kv_a_mqa")
    if "attn_qkv" in block:
        queries = out("attn_output")
        return queries, (out("attn_qkv") - queries) // 2, (out("attn_qkv") - queries) // 2
    return out("attn_q"), out("attn_k"), out("attn_v") or out("attn_k")


def _layer(block: dict[str, Tensor], size: int, width: int) -> Layer:
    if "ssm_conv1d" in block:  # a recurrent layer: the last rows of the convolution, and the state itself
        inner = block["ssm_out"].elements // width if "ssm_out" in block else 2 * width
        a = block["ssm_a"].elements if "ssm_a" in block else 0
        # Mamba's `a` has the shape of the state; Mamba 2's has one number a head, and 128 states for each element.
        return Layer(size, state=block["ssm_conv1d"].elements + (a if a > inner else STATES * inner))
    _, k, v = _outs(block, width)
    return Layer(size, k, v)


def _inner(block: dict[str, Tensor], width: int, experts: int) -> int:
    """Width of the feed-forward part: a matrix of its own, or so many of the experts."""
    if "ffn_down" in block:
        return block["ffn_down"].elements // width
    if "ffn_down_exps" in block and "ffn_gate_inp" in block:
        count = max(1, block["ffn_gate_inp"].elements // width)
        return block["ffn_down_exps"].elements // width // count * experts
    return 0


def sizes_of(shape: Shape, options: EngineOptions) -> tuple[int, int]:
    """(context of a session, cells that all share), as the worker chooses them."""
    n_ctx = min(shape.context, options.n_ctx or DEFAULT_CONTEXT)
    return n_ctx, max(n_ctx, options.n_kv or min(2, options.n_seq_max) * n_ctx)


def estimate(shape: Shape, options: EngineOptions, layers: Layers | None = None) -> Memory:
    """What running `layers` (all of them when None) takes with these options."""
    start, end = layers or (0, len(shape.layers))
    chosen = shape.layers[start:end]
    weights = sum(layer.weights for layer in chosen)
    first, last = start == 0, end == len(shape.layers)
    # Where the embedding is the output matrix too, the last range needs it.
    weights += shape.embedding if first or (last and not shape.output) else 0
    weights += shape.output if last else 0
    n_ctx, n_kv = sizes_of(shape, options)
    cells = -(-n_kv // CELL_STEP) * CELL_STEP
    kv = sum((layer.k + layer.v) * cells for layer in chosen) * KV_WIDTH[options.kv_type]
    state = sum(layer.state for layer in chosen) * F32 * options.n_seq_max
    rows = min(n_ctx, options.n_batch)
    return Memory(
        weights=weights,
        kv=round(kv) + state,
        compute=_compute(shape, rows, cells, flash=options.flash_attn, last=last),
        output=options.n_seq_max * shape.vocabulary * F32 if last else 0,
        cache=min(CACHE, round(kv)) if options.prefix_cache else 0,
    )


def roomy(shape: Shape, options: EngineOptions) -> EngineOptions:
    """`options` with more cells for sessions that run side by side, at most all that they can fill, where they cost little.

    Cells that nobody has cost no time, but a session that finds none has to wait. A number that somebody chose stays.
    """
    n_ctx, n_kv = sizes_of(shape, options)
    cell = sum(layer.k + layer.v for layer in shape.layers) * KV_WIDTH[options.kv_type]
    if options.n_kv or not cell:
        return options
    return msgspec.structs.replace(options, n_kv=max(n_kv, min(options.n_seq_max * n_ctx, int(ROOM / cell))))


def _compute(shape: Shape, rows: int, cells: int, *, flash: bool, last: bool) -> int:
    """Activations alive at once, in the worst of three phases; ggml gives the rooms of one phase to the next."""
    width = shape.width
    mask = cells // 2 if flash else cells  # f16 for flash attention
    scores = 0 if flash else shape.heads * cells
    attention = scores + mask + 6 * width  # scores, mask; residual, Q, K, V, result
    feed_forward = 3 * shape.inner + 3 * width + mask
    output = shape.vocabulary + 2 * width if last else 0
    return rows * F32 * max(attention, feed_forward, output)


def fitting(shape: Shape, options: EngineOptions, room: int) -> EngineOptions | None:
    """`options` with the largest context that fits `room` bytes; None when not even a short one does.

    A context or a cache that somebody chose stays. First sessions share cells of one context instead of two, then it is halved.
    """
    if estimate(shape, options).total <= room:
        return options
    if options.n_ctx or options.n_kv:
        return None
    n_ctx, _ = sizes_of(shape, options)
    while n_ctx >= min(MIN_CONTEXT, shape.context):
        smaller = msgspec.structs.replace(options, n_ctx=n_ctx, n_kv=n_ctx)
        if estimate(shape, smaller).total <= room:
            return smaller
        n_ctx //= 2
    return None


def gpu_layers(shape: Shape, options: EngineOptions, free: Sequence[int], beside: int = 0) -> int:
    """How many of the last layers fit GPUs with so many bytes `free`, each with its KV cache; one more stands for the output matrix.

    `beside` are bytes of other files that may go to any of them: projector, adapters. 0 where a GPU does not tell what is free.
    """
    if min(free, default=0) <= 0:
        return 0
    whole = estimate(shape, options)
    cell = sizes_of(shape, options)[1] * KV_WIDTH[options.kv_type]
    states = options.n_seq_max * F32
    costs = [shape.output or shape.embedding]  # llama.cpp moves the output first
    costs += [
        layer.weights + round((layer.k + layer.v) * cell) + layer.state * states for layer in reversed(shape.layers)
    ]
    # Each GPU has compute buffers of its own. llama.cpp gives it its share of the layers by what is free there, in whole
    # layers, so that the smallest GPU decides how much of all can be used.
    kept = GPU_MARGIN + whole.compute + whole.output + beside + (max(costs) if len(free) > 1 else 0)
    left = sum(free) - round(sum(free) / min(free) * kept)
    count = 0
    for cost in costs:
        left -= cost
        if left < 0:
            break
        count += 1
    return count
