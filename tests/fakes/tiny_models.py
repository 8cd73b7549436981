"""Random models of a few hundred KB, of several architectures, each with a whole vocabulary: llama.cpp loads them.

What they say is noise, but always the same noise. Made with the `gguf` package, as the converters do it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize

WIDTH, HEADS, GROUPS, INNER, LAYERS, CONTEXT = 64, 4, 2, 96, 2, 512
HEAD = WIDTH // HEADS
TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"

Shapes = dict[str, tuple[int, ...]]


@dataclass
class Tiny:
    """One model: keys of its architecture, shapes of its tensors as numpy has them (rows last), its vocabulary."""

    arch: str
    keys: dict[str, Any]
    shapes: Shapes
    vocabulary: Callable[[GGUFWriter], int]
    matrices: GGMLQuantizationType = GGMLQuantizationType.F32
    general: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path, *, seed: int = 1) -> Path:
        """The file."""
        writer = GGUFWriter(path, self.arch)
        for name, value in {"context_length": CONTEXT, "block_count": LAYERS, **self.keys}.items():
            _add(writer, f"{self.arch}.{name}", value)
        tokens = self.vocabulary(writer)
        noise = np.random.default_rng(seed)
        for name, shape in {"token_embd.weight": (tokens, WIDTH), **self.shapes}.items():
            self._add_tensor(writer, name, noise.normal(0, 0.3, shape).astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _add_tensor(self, writer: GGUFWriter, name: str, data: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        if "norm" in name:
            data = np.ones_like(data) if name.endswith("weight") else np.zeros_like(data)
        if name.endswith("ssm_a"):
            data = -np.abs(data)  # a state that decays; growing, it would be infinite after a hundred tokens
        if data.ndim < 2 or "norm" in name or self.matrices == GGMLQuantizationType.F32:
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, quantize(data, self.matrices), raw_dtype=self.matrices)


def _add(writer: GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        assert isinstance(value, list)
        writer.add_array(key, value)


# --- vocabularies


def spm(writer: GGUFWriter) -> int:
    """SentencePiece: three special tokens, the 256 bytes, the printable characters, some pairs."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = ["\u2581", *(chr(code) for code in range(33, 127))]
    pairs = ["he", "ll", "th", "in", "er", "\u2581t", "\u2581a", "hell", "hello"]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *letters, *pairs]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    kinds += [TokenType.NORMAL] * (len(tokens) - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    return len(tokens)


def bpe(writer: GGUFWriter, *, marks: Sequence[str] = (), template: str = TEMPLATE) -> int:
    """Byte-level BPE: GPT-2's 256 letters, some merges, `marks` as tokens of their own, two control tokens."""
    merges = ["h e", "l l", "he ll", "hell o", "t h", "i n", "\u0120 t"]
    tokens = [*_byte_letters(), *(merge.replace(" ", "") for merge in merges), *marks, "<s>", "</s>"]
    kinds = [TokenType.NORMAL] * (len(tokens) - 2 - len(marks))
    kinds += [TokenType.USER_DEFINED] * len(marks) + [TokenType.CONTROL] * 2
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(True)
    writer.add_chat_template(template)
    return len(tokens)


def _byte_letters() -> list[str]:
    """GPT-2's spelling of bytes: printable ones as they are, the others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [*map(chr, plain), *(chr(256 + number) for number in range(len(rest)))]


def wordpiece(writer: GGUFWriter) -> int:
    """BERT's: special tokens, words with U+2581 before them, parts of words without."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127)]
    words = ["the", "cat", "dog", "sat", "on", "mat", "hello", "world"]
    tokens = [*special, *(f"\u2581{word}" for word in [*letters, *words]), *letters, "ing", "er"]
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 5 + [TokenType.NORMAL] * (len(tokens) - 5))
    writer.add_token_type_count(2)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(4)
    return len(tokens)


# --- architectures


def _attention(prefix: str, *, bias: bool = False, norms: bool = False) -> Shapes:
    shapes: Shapes = {
        f"{prefix}.attn_q.weight": (WIDTH, WIDTH),
        f"{prefix}.attn_k.weight": (GROUPS * HEAD, WIDTH),
        f"{prefix}.attn_v.weight": (GROUPS * HEAD, WIDTH),
        f"{prefix}.attn_output.weight": (WIDTH, WIDTH),
    }
    if bias:
        shapes |= {f"{prefix}.attn_{part}.bias": (GROUPS * HEAD,) for part in "kv"}
        shapes[f"{prefix}.attn_q.bias"] = (WIDTH,)
    if norms:
        shapes |= {f"{prefix}.attn_{part}_norm.weight": (HEAD,) for part in "qk"}
    return shapes


def _feed_forward(prefix: str) -> Shapes:
    return {
        f"{prefix}.ffn_gate.weight": (INNER, WIDTH),
        f"{prefix}.ffn_up.weight": (INNER, WIDTH),
        f"{prefix}.ffn_down.weight": (WIDTH, INNER),
    }


def _experts(prefix: str, count: int) -> Shapes:
    return {
        f"{prefix}.ffn_gate_inp.weight": (count, WIDTH),
        f"{prefix}.ffn_gate_exps.weight": (count, INNER, WIDTH),
        f"{prefix}.ffn_up_exps.weight": (count, INNER, WIDTH),
        f"{prefix}.ffn_down_exps.weight": (count, WIDTH, INNER),
    }


_KEYS: Mapping[str, Any] = {
    "embedding_length": WIDTH,
    "feed_forward_length": INNER,
    "attention.head_count": HEADS,
    "attention.head_count_kv": GROUPS,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 10000.0,
}


def _decoder(arch: str, block: Callable[[str], Shapes], **more: Any) -> Tiny:
    shapes: Shapes = {"output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        prefix = f"blk.{layer}"
        shapes |= {f"{prefix}.attn_norm.weight": (WIDTH,), f"{prefix}.ffn_norm.weight": (WIDTH,), **block(prefix)}
    keys = {**_KEYS, **more.pop("keys", {})}
    return Tiny(arch, keys, shapes, **{"vocabulary": spm, **more})


def llama(**more: Any) -> Tiny:
    """Llama with grouped heads, F32, SentencePiece."""
    keys = {"rope.dimension_count": HEAD, "vocab_size": 363}
    return _decoder("llama", lambda prefix: _attention(prefix) | _feed_forward(prefix), keys=keys, **more)


def mixtral() -> Tiny:
    """Llama with four experts, of which two are used, in Q8_0."""
    keys = {"rope.dimension_count": HEAD, "expert_count": 4, "expert_used_count": 2}
    return _decoder(
        "llama",
        lambda prefix: _attention(prefix) | _experts(prefix, 4),
        keys=keys,
        matrices=GGMLQuantizationType.Q8_0,
    )


def qwen2() -> Tiny:
    """Biases, byte-level BPE, F16."""
    return _decoder(
        "qwen2",
        lambda prefix: _attention(prefix, bias=True) | _feed_forward(prefix),
        vocabulary=bpe,
        matrices=GGMLQuantizationType.F16,
    )


def qwen3() -> Tiny:
    """Norms of each head, a stated key length, Q4_0."""
    return _decoder(
        "qwen3",
        lambda prefix: _attention(prefix, norms=True) | _feed_forward(prefix),
        keys={"attention.key_length": HEAD, "attention.value_length": HEAD},
        vocabulary=bpe,
        matrices=GGMLQuantizationType.Q4_0,
    )


def gemma2() -> Tiny:
    """Sliding windows, soft caps, norms after attention and feed-forward."""

    def block(prefix: str) -> Shapes:
        after = {f"{prefix}.post_attention_norm.weight": (WIDTH,), f"{prefix}.post_ffw_norm.weight": (WIDTH,)}
        return _attention(prefix) | _feed_forward(prefix) | after

    keys = {
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "attention.sliding_window": 128,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    return _decoder("gemma2", block, keys=keys)


def bert(*, pooling: int = 1, ranks: bool = False) -> Tiny:
    """An encoder with WordPiece; pooling 1 mean, 2 the first token, 4 a score (then with a classifier)."""
    shapes: Shapes = {
        "token_types.weight": (2, WIDTH),
        "position_embd.weight": (CONTEXT, WIDTH),
        "token_embd_norm.weight": (WIDTH,),
        "token_embd_norm.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        shapes |= _encoder_block(f"blk.{layer}")
    if ranks:
        shapes |= {"cls.weight": (WIDTH, WIDTH), "cls.bias": (WIDTH,)}
        shapes |= {"cls.output.weight": (1, WIDTH), "cls.output.bias": (1,)}
    keys = {
        "embedding_length": WIDTH,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.layer_norm_epsilon": 1e-12,
        "attention.causal": False,
        "pooling_type": pooling,
    }
    return Tiny("bert", keys, shapes, wordpiece)


def _encoder_block(prefix: str) -> Shapes:
    shapes: Shapes = {}
    for part in ("q", "k", "v", "output"):
        shapes |= {f"{prefix}.attn_{part}.weight": (WIDTH, WIDTH), f"{prefix}.attn_{part}.bias": (WIDTH,)}
    for norm in ("attn_output_norm", "layer_output_norm"):
        shapes |= {f"{prefix}.{norm}.weight": (WIDTH,), f"{prefix}.{norm}.bias": (WIDTH,)}
    shapes |= {f"{prefix}.ffn_up.weight": (INNER, WIDTH), f"{prefix}.ffn_up.bias": (INNER,)}
    return shapes | {f"{prefix}.ffn_down.weight": (WIDTH, INNER), f"{prefix}.ffn_down.bias": (WIDTH,)}


def mamba() -> Tiny:
    """No attention: a state-space model."""
    inner, state, rank, kernel = 2 * WIDTH, 8, 4, 4
    shapes: Shapes = {"output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        prefix = f"blk.{layer}"
        shapes |= {
            f"{prefix}.attn_norm.weight": (WIDTH,),
            f"{prefix}.ssm_in.weight": (2 * inner, WIDTH),
            f"{prefix}.ssm_conv1d.weight": (inner, kernel),
            f"{prefix}.ssm_conv1d.bias": (inner,),
            f"{prefix}.ssm_x.weight": (rank + 2 * state, inner),
            f"{prefix}.ssm_dt.weight": (inner, rank),
            f"{prefix}.ssm_dt.bias": (inner,),
            f"{prefix}.ssm_a": (inner, state),
            f"{prefix}.ssm_d": (inner,),
            f"{prefix}.ssm_out.weight": (WIDTH, inner),
        }
    keys = {
        "embedding_length": WIDTH,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "ssm.conv_kernel": kernel,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }
    return Tiny("mamba", keys, shapes, bpe)


def lora(path: Path, *, rank: int = 4, seed: int = 2, width: int = WIDTH, arch: str = "llama") -> Path:
    """An adapter for the queries of each block of `llama()`, whose own noise it drowns."""
    writer = GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    noise = np.random.default_rng(seed)
    for layer in range(LAYERS):
        for half, shape in (("a", (rank, width)), ("b", (WIDTH, rank))):
            data = noise.normal(0, 1, shape).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_{half}", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


DECODERS = {"llama": llama, "mixtral": mixtral, "qwen2": qwen2, "qwen3": qwen3, "gemma2": gemma2, "mamba": mamba}
