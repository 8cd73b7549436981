"""Images in prompts: llama.cpp's libmtmd encodes them, and the model reads the vectors like tokens. Worker only."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as low
from llama_cpp import mtmd_cpp as mtmd

from hali.model.errors import EngineFailed, ModelLoadFailed, UsageError
from hali.model.generation import MEDIA
from hali.wire.images import check_pictures


@dataclass(eq=False)
class Picture:
    """An image of a prompt: it takes the positions [`start`, `start` + `count`). `close` gives its native part back."""

    start: int
    count: int
    chunk: Any

    def close(self) -> None:
        """Free it; further calls do nothing."""
        if self.chunk is not None:
            mtmd.mtmd_input_chunk_free(self.chunk)
            self.chunk = None


@dataclass(frozen=True)
class Seen:
    """A prompt with images. Their positions hold negative numbers in `tokens`, the same for the same image."""

    tokens: list[int]
    pictures: tuple[Picture, ...]


class Projector:
    """The file beside a model that turns its images into vectors."""

    def __init__(
        self,
        path: Path,
        model: Any,
        *,
        threads: int,
        flash: bool,
        gpu: bool,
        log: Any,
        check_text: Callable[[bytes], None],  # UsageError for a text that takes too long to make tokens of
    ) -> None:
        self._check_text = check_text
        mtmd.mtmd_helper_log_set(log, ctypes.c_void_p(0))
        params: Any = mtmd.mtmd_context_params_default()
        params.use_gpu, params.n_threads, params.print_timings, params.warmup = gpu, threads, False, False
        params.media_marker = MEDIA.encode()
        params.flash_attn_type = low.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else low.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._ctx = mtmd.mtmd_init_from_file(os.fsencode(path), model, params)
        if not self._ctx:
            raise ModelLoadFailed(f"{path.name} is not a projector of this model")
        if not mtmd.mtmd_support_vision(self._ctx):
            raise ModelLoadFailed(f"{path.name} does not read images")
        if mtmd.mtmd_decode_use_mrope(self._ctx):
            raise ModelLoadFailed(f"{path.name}: positions in three dimensions (M-RoPE) are not supported")

    def close(self) -> None:
        """Free it, before the model."""
        mtmd.mtmd_free(self._ctx)

    def read(self, text: str, images: Sequence[bytes], *, add_special: bool) -> Seen:
        """Tokens and images of a prompt; `UsageError` for what is no image, or markers that do not match them."""
        check_pictures(images)
        data = text.encode("utf-8", "replace")
        self._check_text(data)
        with ExitStack() as undo:
            bitmaps = [self._bitmap(image, undo) for image in images]
            chunks = mtmd.mtmd_input_chunks_init()
            undo.callback(mtmd.mtmd_input_chunks_free, chunks)
            given = mtmd.mtmd_input_text(text=data, text_len=len(data), add_special=add_special, parse_special=True)
            array = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            if code := mtmd.mtmd_tokenize(self._ctx, chunks, ctypes.byref(given), array, len(bitmaps)):
                why = "the prompt does not name each image once" if code == 1 else "an image cannot be prepared"
                raise UsageError(why, code="image")
            return _laid_out(chunks)

    def _bitmap(self, image: bytes, undo: ExitStack) -> Any:
        buffer = (ctypes.c_uint8 * len(image)).from_buffer_copy(image)
        bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(self._ctx, buffer, len(image), False)
        if not bitmap:
            raise UsageError("an image cannot be decoded", code="image")
        undo.callback(mtmd.mtmd_bitmap_free, bitmap)
        mtmd.mtmd_bitmap_set_id(bitmap, hashlib.sha256(image).hexdigest().encode())
        return bitmap

    def decode(self, ctx: Any, key: int, picture: Picture, n_batch: int) -> None:
        """Encode an image and put it into the KV cache of sequence `key`; `EngineFailed` if that fails."""
        # Where each row of an image sees all others, libmtmd would cut one that is longer than a batch, without a word.
        if picture.count > n_batch and mtmd.mtmd_decode_use_non_causal(self._ctx, picture.chunk):
            raise EngineFailed(
                f"an image of {picture.count} rows does not fit a batch of {n_batch}",
                hint="load the model with a larger n_batch",
                code="image",
            )
        after = low.llama_pos(0)
        code = mtmd.mtmd_helper_eval_chunk_single(
            self._ctx, ctx, picture.chunk, picture.start, key, n_batch, False, ctypes.byref(after)
        )
        if code or after.value != picture.start + picture.count:
            raise EngineFailed(f"an image of {picture.count} rows could not be computed (code {code})")


def _laid_out(chunks: Any) -> Seen:
    """One position after the other; an image cut into tiles is several chunks, which belong to it in order."""
    tokens: list[int] = []
    pictures: list[Picture] = []
    tiles: Counter[bytes] = Counter()
    for index in range(mtmd.mtmd_input_chunks_size(chunks)):
        chunk = mtmd.mtmd_input_chunks_get(chunks, index)
        if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
            count = ctypes.c_size_t()
            found = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            tokens += found[: count.value]
            continue
        image = mtmd.mtmd_input_chunk_get_id(chunk)
        rows = int(mtmd.mtmd_input_chunk_get_n_pos(chunk))
        # A copy: the list of chunks is freed with the request's other native parts.
        pictures.append(Picture(len(tokens), rows, mtmd.mtmd_input_chunk_copy(chunk)))
        tokens += [_stand_in(image, tiles[image])] * rows
        tiles[image] += 1
    return Seen(tokens, tuple(pictures))


def _stand_in(image: bytes, tile: int) -> int:
    """A negative number for a tile of an image (its SHA-256), so that the prefix cache tells images apart."""
    digest = hashlib.sha256(image + tile.to_bytes(4, "little")).digest()
    return -1 - int.from_bytes(digest[:7], "little")
