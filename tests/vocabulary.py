"""A model's vocabulary without its weights: loaded in a fraction of a second, enough for grammars."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as low


class Vocabulary:
    """What `hali.engine.constraint.Formats` and `chain.build` need of a model. `close` it."""

    n_ctx = 512

    def __init__(self, path: Path) -> None:
        params = low.llama_model_default_params()
        params.vocab_only = True
        self._model: Any = low.llama_model_load_from_file(os.fsencode(path), params)
        self.vocab: Any = low.llama_model_get_vocab(self._model)
        self.n_vocab = int(low.llama_vocab_n_tokens(self.vocab))

    def is_end(self, token: int) -> bool:
        return bool(low.llama_vocab_is_eog(self.vocab, token))

    def piece(self, token: int, *, special: bool = False) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        count = low.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        data = text.encode()
        tokens = (low.llama_token * (len(data) + 8))()
        count = low.llama_tokenize(self.vocab, data, len(data), tokens, len(tokens), add_special, parse_special)
        return list(tokens[:count])

    def close(self) -> None:
        low.llama_model_free(self._model)
