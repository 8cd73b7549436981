"""A projector with random weights: a vision transformer of two layers, 28 × 28 pixels in 2 × 2 patches, for any model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

PIXELS, PATCH, WIDTH, HIDDEN, HEADS, LAYERS = 28, 14, 32, 64, 2, 2
ROWS = (PIXELS // PATCH) ** 2  # vectors an image


def write_projector(path: Path, n_embd: int, seed: int = 1) -> Path:
    """A LLaVA-style `mmproj` file whose vectors have `n_embd` elements."""
    draw = np.random.default_rng(seed)
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    for name, value in (("image_size", PIXELS), ("patch_size", PATCH), ("embedding_length", WIDTH)):
        writer.add_uint32(f"clip.vision.{name}", value)
    for name, value in (("feed_forward_length", HIDDEN), ("block_count", LAYERS), ("projection_dim", n_embd)):
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_uint32("clip.vision.attention.head_count", HEADS)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.48, 0.46, 0.41])
    writer.add_array("clip.vision.image_std", [0.27, 0.26, 0.28])

    def put(name: str, *shape: int, scale: float = 0.5) -> None:
        writer.add_tensor(name, (draw.standard_normal(shape) * scale).astype(np.float32))

    put("v.class_embd", WIDTH)
    put("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH, scale=0.1)
    put("v.position_embd.weight", ROWS + 1, WIDTH)
    for name in ("v.pre_ln", *(f"v.blk.{layer}.ln{n}" for layer in range(LAYERS) for n in (1, 2))):
        put(f"{name}.weight", WIDTH)
        put(f"{name}.bias", WIDTH)
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            put(f"v.blk.{layer}.{part}.weight", WIDTH, WIDTH)
            put(f"v.blk.{layer}.{part}.bias", WIDTH)
        for part, rows, columns in (("ffn_up", HIDDEN, WIDTH), ("ffn_down", WIDTH, HIDDEN)):
            put(f"v.blk.{layer}.{part}.weight", rows, columns)
            put(f"v.blk.{layer}.{part}.bias", rows)
    for number, columns in ((0, WIDTH), (2, n_embd)):
        put(f"mm.{number}.weight", n_embd, columns, scale=0.4)  # strong enough to change what is said
        put(f"mm.{number}.bias", n_embd, scale=0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
