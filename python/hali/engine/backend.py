"""llama.cpp through llama-cpp-python's low-level API: one model, one context, one reusable batch. Worker only."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as low

from hali.engine.adapters import Adapters
from hali.engine.batch import Batch
from hali.engine.cores import choose_threads, usable_cores
from hali.engine.kinds import kind_of, pooling_of, rows_of, sequences_of
from hali.engine.options import DEFAULT_CONTEXT, MAX_SEQUENCES, EngineOptions
from hali.engine.retained import Retained
from hali.engine.schedule import Slice
from hali.engine.specials import MOST, SpecialTexts
from hali.engine.vision import Projector
from hali.model.errors import EngineFailed, ModelLoadFailed, UsageError

KV_TYPES = {
    "f32": low.GGML_TYPE_F32,
    "f16": low.GGML_TYPE_F16,
    "bf16": 30,  # GGML_TYPE_BF16; the binding does not name it
    "q8_0": low.GGML_TYPE_Q8_0,
    "q4_0": low.GGML_TYPE_Q4_0,
}
ABORTED = 2  # llama_decode: the abort callback said stop
NO_SLOT = 1  # llama_decode: no room in the KV cache
ALL_LAYERS = 0x7FFFFFFF
_WARNING, _ERROR, _CONTINUED = 3, 4, 5  # enum ggml_log_level; 2 is info. (llama-cpp-python's own table is out of date.)
_KEPT_ERRORS = 8  # lines; the first one usually names the reason


class NativeLog:
    """Keeps llama.cpp's warnings and errors: all go to standard error, the last errors also into `reason()`."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._level = 0
        self.callback = low.llama_log_callback(self._take)  # must outlive llama.cpp's use of it

    def install(self) -> None:
        """From now on llama.cpp logs here."""
        low.llama_log_set(self.callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level != _CONTINUED:
            self._level = level
        if self._level not in (_WARNING, _ERROR):
            return
        line = text.decode("utf-8", "replace")
        sys.stderr.write(line)
        if self._level == _ERROR and line.strip():
            self._errors = [*self._errors, line.strip()][-_KEPT_ERRORS:]

    def reason(self) -> str:
        """llama.cpp's own words for the last failure, on one line."""
        return "; ".join(self._errors) or "no reason given"


@dataclass(frozen=True)
class Specials:
    """Special tokens of a vocabulary, -1 for those it does not have, and whether prompts get them."""

    bos: int
    eos: int
    separator: int
    add_bos: bool
    add_eos: bool


class Model:
    """A loaded model with its context. `close` gives everything back; a failed constructor leaves nothing."""

    def __init__(
        self, path: Path, options: EngineOptions, log: NativeLog, on_progress: Callable[[float], None]
    ) -> None:
        self._log = log
        with ExitStack() as undo:
            self.model = self._load(path, options, on_progress)
            undo.callback(low.llama_model_free, self.model)
            self.vocab = low.llama_model_get_vocab(self.model)
            self._check_kind(path, options)
            self._adapters = Adapters(self.model, options, log.reason)
            self.n_ctx, self.n_kv = self._sizes(options)
            self.n_batch = min(self.n_ctx, options.n_batch) if self.kind == "chat" else self.n_ctx
            self.abort = ctypes.create_string_buffer(2)  # "" or "\1", read as a C string; see _context_params
            if self.kind == "chat":
                self.ctx = self._context(self._context_params(options))
            else:
                self.ctx = self.embedding_context(options, self.n_ctx)
            undo.callback(low.llama_free, self.ctx)
            self.memory = low.llama_get_memory(self.ctx)
            self._undo = undo.pop_all()
        self.batch = Batch(self.n_batch)
        self.n_vocab = int(low.llama_vocab_n_tokens(self.vocab))

    def _load(self, path: Path, options: EngineOptions, on_progress: Callable[[float], None]) -> Any:
        params = low.llama_model_default_params()
        params.n_gpu_layers = ALL_LAYERS if options.gpu_layers < 0 else options.gpu_layers

        def progress(fraction: float, _: object) -> bool:
            on_progress(fraction)
            return True

        params.progress_callback = low.llama_progress_callback(progress)
        model = low.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise ModelLoadFailed(f"llama.cpp cannot load {path.name}: {self._log.reason()}")
        return model

    def _check_kind(self, path: Path, options: EngineOptions) -> None:
        encodes = bool(low.llama_model_has_encoder(self.model))
        if encodes and low.llama_model_has_decoder(self.model):
            raise ModelLoadFailed(f"{path.name} is an encoder with a decoder; hali runs models that are one of the two")
        if low.llama_vocab_type(self.vocab) == low.LLAMA_VOCAB_TYPE_NONE:
            raise ModelLoadFailed(f"{path.name} has no vocabulary; it is a part of a model")
        self.kind = kind_of(self.meta, encoder_only=encodes)
        self.n_layer = int(low.llama_model_n_layer(self.model))
        # A recurrent state cannot go back; a sliding window has overwritten what it would need to go back to.
        self.goes_back = self.kind == "chat" and not (
            low.llama_model_is_recurrent(self.model)
            or low.llama_model_is_hybrid(self.model)
            or low.llama_model_n_swa(self.model) > 0
        )
        end = self.n_layer if options.layer_end is None else options.layer_end
        if (options.layer_start, end) != (0, self.n_layer):
            raise UsageError(
                f"layers [{options.layer_start}, {end}) of {path.name}: this engine runs whole models only, "
                f"[0, {self.n_layer})",
                code="layer_range",
            )

    def _sizes(self, options: EngineOptions) -> tuple[int, int]:
        """(context of one session, cells of the shared KV cache)."""
        self.n_trained = trained = int(low.llama_model_n_ctx_train(self.model))
        if self.kind != "chat":
            rows = rows_of(self.kind, trained=trained, wanted=options.n_ctx, n_batch=options.n_batch)
            return rows, rows
        n_ctx = min(trained, options.n_ctx or min(trained, DEFAULT_CONTEXT))
        n_kv = options.n_kv or min(2, options.n_seq_max) * n_ctx
        original = self._original_context()
        if n_ctx <= original < n_kv:
            n_kv = original  # longrope models choose their factors by the size of the cache (pipeline.md, 3)
        return n_ctx, max(n_ctx, n_kv)

    def _original_context(self) -> int:
        arch = self.meta("general.architecture")
        text = self.meta(f"{arch}.rope.scaling.original_context_length")
        return int(text) if text.isdigit() else 1 << 62

    def _context_params(self, options: EngineOptions) -> Any:
        params: Any = low.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = self.n_kv, self.n_batch, self.n_batch
        params.n_seq_max, params.kv_unified = options.n_seq_max + self.spare_sequences(options), True
        threads = choose_threads(options.threads, options.threads_batch, usable_cores())
        params.n_threads, params.n_threads_batch = threads
        params.flash_attn_type = (
            low.LLAMA_FLASH_ATTN_TYPE_ENABLED if options.flash_attn else low.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.type_k = params.type_v = KV_TYPES[options.kv_type]
        # strlen is a compiled `bool f(void *)`: true while the buffer is not empty. A Python callback would take the
        # GIL at each of the graph's nodes; this one lets another thread stop a long prefill by writing one byte.
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, low.ggml_abort_callback)
        params.abort_callback = strlen
        params.abort_callback_data = ctypes.addressof(self.abort)
        return params

    def spare_sequences(self, options: EngineOptions) -> int:
        """Sequence ids beside those of the sessions: one for the prefix cache, where the model can have it."""
        return int(options.prefix_cache and self.goes_back and options.n_seq_max < MAX_SEQUENCES)

    def retained(self, options: EngineOptions) -> Retained | None:
        """The prefix cache over this context; None when it is switched off or this kind of model can have none."""
        if not self.spare_sequences(options):
            return None
        return Retained(self.ctx, n_kv=self.n_kv, n_batch=self.n_batch, scratch=options.n_seq_max)

    def projector(self, options: EngineOptions) -> Projector | None:
        """What reads images beside this model, if there is such a file; ModelLoadFailed if it does not fit. Freed by `close`."""
        if options.projector is None:
            return None
        found = Projector(
            Path(options.projector),
            self.model,
            threads=choose_threads(options.threads, options.threads_batch, usable_cores())[1],
            flash=options.flash_attn,
            gpu=options.gpu_layers != 0,
            log=self._log.callback,
            check_text=self.check_text,
        )
        self._undo.callback(found.close)
        return found

    def embedding_context(self, options: EngineOptions, rows: int) -> Any:
        """A context that makes vectors of texts of up to `rows` tokens; ModelLoadFailed if there is no room for it."""
        params = self._context_params(options)
        params.n_ctx = params.n_batch = params.n_ubatch = rows  # a text is computed in one piece
        params.n_seq_max = sequences_of(rows, options.n_seq_max)
        params.embeddings, params.pooling_type = True, pooling_of(self.meta)
        return self._context(params)

    def _context(self, params: Any) -> Any:
        ctx = low.llama_init_from_model(self.model, params)
        if not ctx:
            raise ModelLoadFailed(f"no context of {params.n_ctx} tokens: {self._log.reason()}")
        self._adapters.apply(ctx)
        return ctx

    def close(self) -> None:
        """Free context and model."""
        self._undo.close()

    # --- computing

    def decode(
        self, slices: Sequence[Slice], tokens: Callable[[int], Sequence[int]], start: Callable[[int], int]
    ) -> int:
        """One llama_decode over `slices`: 0, ABORTED or NO_SLOT; EngineFailed for anything else.

        `tokens(key)` is the whole text of a session and `start(key)` the first position to compute. The last row of
        each slice has logits: sample from `batch.row_of_last`.
        """
        self.batch.fill(slices, tokens, start)
        code = int(low.llama_decode(self.ctx, self.batch.native))
        if code < 0 or code > ABORTED:
            raise EngineFailed(
                f"llama_decode of {self.batch.native.n_tokens} rows failed with {code}: {self._log.reason()}"
            )
        return code

    def forget(self, key: int, start: int = 0) -> bool:
        """Drop the KV cells of a sequence from position `start` on; False if this kind of model can only drop all."""
        return bool(low.llama_memory_seq_rm(self.memory, key, start, -1))

    def cells(self, key: int) -> int:
        """KV cells that llama.cpp holds for a sequence."""
        return int(low.llama_memory_seq_pos_max(self.memory, key)) + 1

    def clear(self) -> None:
        """Empty the KV cache, so that the next session lies in it as in a new one: same cells, same roundings."""
        low.llama_memory_clear(self.memory, False)

    # --- vocabulary

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


def version() -> str:
    """Which binding computes here."""
    return f"llama-cpp-python {llama_cpp.__version__}"
