"""Damaged copies of a GGUF file, the same ones for the same seed: one lie each, most of them plausible."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable

from tests.fakes.gguf_image import ARRAY, BOOL, F32, STRING, U32, Image, Key, text, texts

Damage = Callable[[Image, random.Random], bytes]

EDGES = [*range(10), 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024]
EDGES += [1025, 65_535, 65_536, 1 << 20, 1 << 24, (1 << 27) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan"), 10000.0]
TYPES = [*range(46), 255, 1 << 31, (1 << 32) - 1]
WORDS = b"none linear yarn longrope llama bert gpt2 t5 rwkv plamo2 test no_vocab gemma4 whitespace hybriddna default".split()
WORDS += b"llama-bpe qwen2 gpt-2 tekken kimi-k2 gemma4 deepseek-v3 qwen3 qwen2 gemma2 gemma3 mamba phi3 falcon gptneox".split()
WORDS += b"llama4 deepseek2 rwkv7 qwen2moe starcoder2 bloom mpt olmo2 granite clip t5encoder jamba".split()
WORDS += [b"", b"\xff", b"\0", b"a\0b", b"\xf0\x9f\xa6\x99" * 9, b"%s%n", b"x" * 5000]
TEMPLATES = [
    b"{% for i in range(10 ** 12) %}{% endfor %}",
    b"{{ 'a' * (10 ** 11) }}",
    b"{% for i in range(100000) %}{{ messages[0]['content'] * 1000 }}{% endfor %}",
    b"{% set ns = namespace(s='a' * 1000) %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    b"{{ ''.__class__.__mro__[1].__subclasses__() }}",
    b"{{ cycler.__init__.__globals__.os.system('id') }}",
    b"{{ self.__init__.__globals__ }}",
    b"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    b"{" * 3000,
    b"{{ (" * 3000,
    b"{% if a %}" * 3000,
    b"{{ messages[99]['x']['y'] }}",
    b"{{ raise_exception('no') }}",
    b"{{ 10 ** 10 ** 10 }}",
    b"{% include '/etc/passwd' %}",
    b"{{ '%0100000000d' % 1 }}",
    b"{{ messages | tojson(indent=100000000) }}",
    b"{{ 'a'.center(10 ** 11) }}",
    b"{{ range(10 ** 8) | list | length }}",
    b"<s>" * 100_000,
    b"\xff\xfe",
]


def mutant(whole: Image, seed: int) -> tuple[str, bytes]:
    """(the kind of damage, the damaged file)."""
    chance = random.Random(seed)
    damage = DAMAGES[seed % len(DAMAGES)]
    return damage.__name__.strip("_"), damage(copy.deepcopy(whole), chance)


def _flipped_bits(image: Image, chance: random.Random) -> bytes:
    data = bytearray(image.pack())
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        data[chance.randrange(len(image.header()))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _edge_in_header(image: Image, chance: random.Random) -> bytes:
    data = bytearray(image.pack())
    width = chance.choice([4, 8])
    at = chance.randrange(len(image.header()) - width)
    data[at : at + width] = chance.choice(EDGES).to_bytes(width, "little")
    return bytes(data)


def _cut(image: Image, chance: random.Random) -> bytes:
    data = image.pack()
    header = len(image.header())
    end = chance.choice([chance.randrange(header), chance.randrange(header, len(data)), len(data) - 1])
    return data[:end] + bytes(chance.choice([0, 0, 7, len(data) - end]))


def _lying_count(image: Image, chance: random.Random) -> bytes:
    tensors, keys = len(image.tensors), len(image.keys)
    lie = chance.choice([-1, 1, 5, 1 << 16, 1 << 32, 1 << 62, (1 << 64) - 1 - keys - tensors])
    image.counts = (tensors + lie, keys) if chance.random() < 0.5 else (tensors, keys + lie)
    image.counts = (image.counts[0] % (1 << 64), image.counts[1] % (1 << 64))
    return image.pack()


def _number(image: Image, chance: random.Random) -> bytes:
    key = chance.choice([key for key in image.keys if key.kind == U32])
    key.value = struct.pack("<I", _near(int.from_bytes(key.value, "little"), chance))
    return image.pack()


def _near(value: int, chance: random.Random) -> int:
    return chance.choice([chance.choice(EDGES), value * 2, value // 2, value + 1, value - 1]) % (1 << 32)


def _fraction(image: Image, chance: random.Random) -> bytes:
    found = [key for key in image.keys if key.kind == F32]
    key = chance.choice(found) if found else image.keys[0]
    key.kind, key.value = F32, struct.pack("<f", chance.choice(FLOATS))
    return image.pack()


def _flag(image: Image, chance: random.Random) -> bytes:
    name = chance.choice(["add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix"])
    _set(image, f"tokenizer.ggml.{name}", Key(b"", BOOL, bytes([chance.choice([0, 1, 1, 1, 2])])))
    if chance.random() < 0.5:
        image.keys = [key for key in image.keys if key.name != b"tokenizer.ggml.bos_token_id"]
    return image.pack()


def _set(image: Image, name: str, value: Key) -> None:
    image.keys = [key for key in image.keys if key.name != name.encode()]
    image.keys.append(Key(name.encode(), value.kind, value.value))


def _word(image: Image, chance: random.Random) -> bytes:
    key = chance.choice([key for key in image.keys if key.kind == STRING])
    key.value = text(chance.choice(WORDS))
    return image.pack()


def _renamed_architecture(image: Image, chance: random.Random) -> bytes:
    old = image.key("general.architecture").value[8:]
    new = chance.choice(WORDS)
    for key in image.keys:
        key.name = key.name.replace(old + b".", new + b".")
    image.key("general.architecture").value = text(new)
    return image.pack()


def _template(image: Image, chance: random.Random) -> bytes:
    _set(image, "tokenizer.chat_template", Key(b"", STRING, text(chance.choice(TEMPLATES))))
    return image.pack()


def _swapped_values(image: Image, chance: random.Random) -> bytes:
    kind = chance.choice([U32, U32, STRING, F32, ARRAY])
    found = [key for key in image.keys if key.kind == kind]
    one, other = chance.choice(found or image.keys), chance.choice(found or image.keys)
    one.value, other.value, one.kind, other.kind = other.value, one.value, other.kind, one.kind
    return image.pack()


def _lost_key(image: Image, chance: random.Random) -> bytes:
    del image.keys[chance.randrange(len(image.keys))]
    return image.pack()


def _new_key(image: Image, chance: random.Random) -> bytes:
    arch = image.key("general.architecture").value[8:].decode()
    if chance.random() < 0.2:
        name = chance.choice(
            ["rope.freq_base", "rope.scaling.factor", "attention.scale", "logit_scale", "expert_weights_scale"]
        )
        _set(image, f"{arch}.{name}", Key(b"", F32, struct.pack("<f", chance.choice(FLOATS))))
    else:
        _set(image, f"{arch}.{chance.choice(_OPTIONAL)}", Key(b"", U32, struct.pack("<I", chance.choice(EDGES))))
    return image.pack()


_OPTIONAL = ["attention.key_length", "attention.value_length", "rope.dimension_count", "expert_count", "vocab_size"]
_OPTIONAL += [
    "expert_used_count",
    "attention.sliding_window",
    "nextn_predict_layers",
    "expert_group_count",
    "pooling_type",
]
_OPTIONAL += [
    "attention.sliding_window_pattern",
    "embedding_length_out",
    "attention.causal",
    "attention.key_length_swa",
]
_OPTIONAL += [
    "rope.scaling.original_context_length",
    "attention.head_count_kv",
    "feed_forward_length",
    "ssm.group_count",
]
_OPTIONAL += ["full_attention_interval", "leading_dense_block_count", "expert_shared_count", "rope.dimension_count_swa"]


def _token(image: Image, chance: random.Random) -> bytes:
    key = image.key("tokenizer.ggml.tokens")
    tokens = key.texts()
    at = chance.randrange(len(tokens))
    tokens[at] = chance.choice(
        [b"", tokens[at - 1], tokens[at] + b"\0", b"\xff\xfe", b"<0x0a>", b"x" * 3000, b"<|im_end|>"]
    )
    if chance.random() < 0.2:
        del tokens[at]
    key.value = texts(tokens)
    return image.pack()


def _token_array(image: Image, chance: random.Random) -> bytes:
    found = [key for key in image.keys if key.kind == ARRAY and key.name != b"tokenizer.ggml.tokens"]
    if not found:
        return _lost_key(image, chance)
    key = chance.choice(found)
    value = bytearray(key.value)
    if chance.random() < 0.3:
        del value[12 + 4 * chance.randrange(max(1, (len(value) - 12) // 4)) :]
        value[4:12] = ((len(value) - 12) // 4).to_bytes(8, "little")
    else:
        at = 12 + 4 * chance.randrange(max(1, (len(value) - 12) // 4))
        value[at : at + 4] = chance.choice(
            [struct.pack("<f", chance.choice(FLOATS)), struct.pack("<I", chance.choice(EDGES))]
        )
    key.value = bytes(value)
    return image.pack()


def _shape(image: Image, chance: random.Random) -> bytes:
    tensor = chance.choice(image.tensors)
    how, at = chance.randrange(4), chance.randrange(len(tensor.shape))
    if how == 0:
        tensor.shape.reverse()
    elif how == 1:
        tensor.shape[at] = chance.choice([*EDGES, 1 << 62, (1 << 64) - 1])
    elif how == 2:
        tensor.shape = [1] * chance.randrange(6)
    else:
        tensor.shape.append(chance.choice([0, 1, 2]))
    return image.pack()


def _tensor_type(image: Image, chance: random.Random) -> bytes:
    for tensor in image.tensors if chance.random() < 0.2 else [chance.choice(image.tensors)]:
        same = {0: [26], 1: [25, 30], 8: [8, 9], 2: [20]}.get(tensor.kind, [])  # of the same size
        tensor.kind = chance.choice([*same * 20, chance.choice(TYPES)])
    return image.pack()


def _tensor_place(image: Image, chance: random.Random) -> bytes:
    tensor = chance.choice(image.tensors)
    tensor.offset = chance.choice(
        [chance.choice(image.tensors).offset, tensor.offset + 32, 0, 1, (1 << 64) - 32, 1 << 40]
    )
    return image.pack()


def _tensor_name(image: Image, chance: random.Random) -> bytes:
    one, other = chance.choice(image.tensors), chance.choice(image.tensors)
    how = chance.randrange(3)
    if how == 0:
        one.name, other.name = other.name, one.name
    elif how == 1:
        one.name = chance.choice(
            [other.name, b"", b"x" * 70, b"blk.99.attn_q.weight", b"output.weight", b"rope_freqs.weight"]
        )
    else:
        image.tensors.remove(one)
    return image.pack()


def _weights(image: Image, chance: random.Random) -> bytes:
    data = bytearray(image.data)
    how = chance.randrange(3)
    if how == 0:
        for _ in range(64):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        word = struct.pack("<f", chance.choice(FLOATS)) if how == 1 else b"\xff\xff\xff\xff"
        start = chance.randrange(0, len(data), 32)
        end = min(len(data), start + chance.choice([4, 256, len(data)]))
        data[start:end] = (word * ((end - start) // 4 + 1))[: end - start]
    image.data = bytes(data)
    return image.pack()


DAMAGES: list[Damage] = [_flipped_bits, _edge_in_header, _number, _flipped_bits, _cut, _lying_count, _fraction, _flag]
DAMAGES += [_word, _renamed_architecture, _template, _swapped_values, _lost_key, _new_key, _token, _token_array]
DAMAGES += [_shape, _tensor_type, _tensor_place, _tensor_name, _weights, _number, _new_key]
