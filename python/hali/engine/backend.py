"""llama.cpp through llama-cpp-python's low-level API: one model, one context, one reusable batch. Worker only."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import llama_cpp
import msgspec
import numpy as np
from llama_cpp import llama_cpp as low

from hali.engine import offload
from hali.engine.adapters import Adapters
from hali.engine.batch import Batch
from hali.engine.cores import choose_threads, usable_cores
from hali.engine.kinds import kind_of, pooling_of, rows_of, sequences_of
from hali.engine.native_log import NativeLog
from hali.engine.options import DEFAULT_CONTEXT, MAX_SEQUENCES, EngineOptions
from hali.engine.retained import Retained
from hali.engine.schedule import Slice
from hali.engine.vision import Projector
from hali.engine.vocabulary import Vocabulary
from hali.model.errors import EngineFailed, EngineUnavailable, ModelLoadFailed, UsageError

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


class Model(Vocabulary):
    """A loaded model with its context. `close` gives everything back; a failed constructor leaves nothing.

    Of `options`, None layers on GPUs are none here: `open_model` chooses.
    """

    def __init__(
        self,
        path: Path,
        options: EngineOptions,
        log: NativeLog,
        on_progress: Callable[[float], None],
        *,
        abort: ctypes.Array[ctypes.c_char] | None = None,  # of another model that is stopped together with this one
    ) -> None:
        self._log = log
        with ExitStack() as undo:
            super().__init__(self._load(path, options, on_progress))
            undo.callback(low.llama_model_free, self.model)
            self._check_kind(path, options)
            self.gpu_layers = self._on_gpus(options.gpu_layers or 0)
            self._adapters = Adapters(self.model, options, log.reason)
            self.n_ctx, self.n_kv = self._sizes(options)
            self.n_batch = min(self.n_ctx, options.n_batch) if self.kind == "chat" else self.n_ctx
            self.abort = abort or ctypes.create_string_buffer(2)  # "" or "\1", read as a C string; see _context_params
            if self.kind == "chat":
                self.ctx = self._context(self._context_params(options))
            else:
                self.ctx = self.embedding_context(options, self.n_ctx)
            undo.callback(low.llama_free, self.ctx)
            self.memory = low.llama_get_memory(self.ctx)
            self._undo = undo.pop_all()
        self.batch = Batch(self.n_batch)
        # ggml's CPU attention takes 64 rows at a time, and computes for all of them the cells that one of them needs: a
        # row of a reply among those of a prompt costs 64 (15 replies of 250 tokens beside 256 rows: a quarter of the time).
        self.tiled = options.flash_attn and options.kv_type in ("f32", "f16") and not self.gpu_layers

    def _load(self, path: Path, options: EngineOptions, on_progress: Callable[[float], None]) -> Any:
        params = low.llama_model_default_params()
        layers = options.gpu_layers or 0
        params.n_gpu_layers = ALL_LAYERS if layers < 0 else layers
        if options.copy_weights and not layers:
            params.load_mode = low.LLAMA_LOAD_MODE_NONE

        def progress(fraction: float, _: object) -> bool:
            on_progress(fraction)
            return True

        params.progress_callback = low.llama_progress_callback(progress)
        model = low.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise ModelLoadFailed(f"llama.cpp cannot load {path.name}: {self._log.reason()}")
        return model

    def _on_gpus(self, asked: int) -> int:
        """What llama.cpp makes of the wish: no more than there are, nothing without a GPU."""
        most = self.n_layer + 1 if asked and low.llama_supports_gpu_offload() else 0
        return most if asked < 0 else min(asked, most)

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
            gpu=self.gpu_layers > 0,
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
        # Flash attention rounds K and V to f16: a vector would differ in its fourth digit by what it is computed with.
        params.flash_attn_type = low.LLAMA_FLASH_ATTN_TYPE_DISABLED
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

    def likeliest(self, row: int) -> int:
        """The token with the largest logit in a row of the last batch."""
        return int(np.ctypeslib.as_array(low.llama_get_logits_ith(self.ctx, row), (self.n_vocab,)).argmax())

    def forget(self, key: int, start: int = 0) -> bool:
        """Drop the KV cells of a sequence from position `start` on; False if this kind of model can only drop all."""
        return bool(low.llama_memory_seq_rm(self.memory, key, start, -1))

    def cells(self, key: int) -> int:
        """KV cells that llama.cpp holds for a sequence."""
        return int(low.llama_memory_seq_pos_max(self.memory, key)) + 1

    def clear(self) -> None:
        """Empty the KV cache, so that the next session lies in it as in a new one: same cells, same roundings."""
        low.llama_memory_clear(self.memory, False)


def version() -> str:
    """Which binding computes here."""
    return f"llama-cpp-python {llama_cpp.__version__}"


def open_model(path: Path, options: EngineOptions, log: NativeLog, on_progress: Callable[[float], None]) -> Model:
    """`Model`, with as many layers on GPUs as fit these where nobody chose."""
    if options.gpu_layers is not None:
        return Model(path, options, log, on_progress)
    try:
        layers = offload.fitting_layers(path, options, offload.free_memory())
    except EngineUnavailable as error:
        sys.stderr.write(f"engine worker: all layers run on the CPU: {error}; {error.hint}\n")
        layers = 0
    try:
        return Model(path, msgspec.structs.replace(options, gpu_layers=layers), log, on_progress)
    except ModelLoadFailed as error:
        if not layers:
            raise
        # An estimate, and another program may have been faster: better slow than not at all, and told (EngineInfo).
        sys.stderr.write(f"engine worker: {layers} layers on the GPU did not work, so all run on the CPU: {error}\n")
        return Model(path, msgspec.structs.replace(options, gpu_layers=0), log, on_progress)
