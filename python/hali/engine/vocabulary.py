"""What a loaded model's file says, and its tokens: what they are spelled like, which tokens a text is. Worker only."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llama_cpp import llama_cpp as low

from hali.engine.specials import MOST, SpecialTexts
from hali.model.errors import UsageError


@dataclass(frozen=True)
class Specials:
    """Special tokens of a vocabulary, -1 for those it does not have, and whether prompts get them."""

    bos: int
    eos: int
    separator: int
    add_bos: bool
    add_eos: bool


class Vocabulary:
    """Metadata and tokens of `model`, llama.cpp's handle of a loaded one."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.vocab = low.llama_model_get_vocab(model)
        self.n_vocab = int(low.llama_vocab_n_tokens(self.vocab))

    def meta(self, key: str) -> str:
        """A metadata value of the file as text; empty if there is none."""
        size = 1 << 10
        while True:
            buffer = ctypes.create_string_buffer(size)
            needed = low.llama_model_meta_val_str(self.model, key.encode(), buffer, size)
            if needed < size:
                return buffer.value.decode("utf-8", "replace") if needed >= 0 else ""
            size = needed + 1

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        """Token ids; special tokens spelled in the text count, as llama-cpp-python has it for chats and prompts."""
        data = text.encode("utf-8", "replace")
        self.check_text(data)
        room = len(data) + 8  # no tokenizer makes more tokens than bytes, plus BOS and EOS
        tokens = (low.llama_token * room)()
        count = low.llama_tokenize(self.vocab, data, len(data), tokens, room, add_special, parse_special)
        if count < 0:
            raise UsageError(f"a prompt of {len(data)} bytes cannot be tokenized", code="tokenize")
        return list(tokens[:count])

    def check_text(self, data: bytes) -> None:
        """UsageError for a text with so many special tokens that llama.cpp would take minutes to find them."""
        if len(data) > MOST and self._special_texts.too_many(data):
            raise UsageError(f"a text with more than {MOST} special tokens", code="tokenize")

    @cached_property
    def _special_texts(self) -> SpecialTexts:
        recognised = low.LLAMA_TOKEN_ATTR_CONTROL | low.LLAMA_TOKEN_ATTR_USER_DEFINED | low.LLAMA_TOKEN_ATTR_UNKNOWN
        return SpecialTexts(
            low.llama_vocab_get_text(self.vocab, token) or b""
            for token in range(self.n_vocab)
            if low.llama_vocab_get_attr(self.vocab, token) & recognised
        )

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes a sampled token stands for; special tokens stand for none unless `special`."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = low.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    @cached_property
    def longest_token(self) -> int:
        """Bytes that a token stands for at most."""
        return max(len(self.piece(token, special=True)) for token in range(self.n_vocab))

    def token_text(self, token: int) -> str:
        """How the vocabulary spells a token; empty for "no such token" (-1)."""
        return "" if token < 0 else (low.llama_vocab_get_text(self.vocab, token) or b"").decode("utf-8", "replace")

    def specials(self) -> Specials:
        """See the class."""
        vocab = self.vocab
        return Specials(
            bos=int(low.llama_vocab_bos(vocab)),
            eos=int(low.llama_vocab_eos(vocab)),
            separator=int(low.llama_vocab_sep(vocab)),
            add_bos=bool(low.llama_vocab_get_add_bos(vocab)),
            add_eos=bool(low.llama_vocab_get_add_eos(vocab)),
        )

    def is_end(self, token: int) -> bool:
        """Whether the model says with this token that it has finished."""
        return bool(low.llama_vocab_is_eog(self.vocab, token))
