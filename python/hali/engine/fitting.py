"""Options for the room there is: reads a model's header and asks the estimate.

Room is RAM here. What a worker puts on a GPU counts all the same: the daemon does not load llama.cpp, so it does not know how much that is.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from anyio import to_thread

from hali.engine import pages
from hali.engine.estimate import MIN_CONTEXT, PROCESS, Shape, estimate, fitting, roomy, shape_of, sizes_of
from hali.engine.options import EngineOptions
from hali.model.errors import HaliError
from hali.model.splits import parts_beside
from hali.runtime.memory import CGROUP, MEMINFO, free_ram
from hali.wire.gguf import read_layout_file


class Fitted(msgspec.Struct, frozen=True):
    """Options, the bytes that they take, and whether nothing had to be made smaller for it to fit."""

    options: EngineOptions
    bytes: int
    whole: bool


async def fitted(path: Path, options: EngineOptions, room: int | None) -> Fitted:
    """`options` for `room` bytes (None = any), with a smaller context where needed, at the worst the smallest there is.

    Of a file whose header cannot be read nothing is known: starting it will say what is wrong.
    """
    try:
        model = await to_thread.run_sync(read_model, path, options)
    except (HaliError, OSError):
        return Fitted(options, 0, True)
    shape = model.shape
    copy = pages.huge_pages() and pages.worth_copying(shape.weights, free_ram(MEMINFO, CGROUP))
    options = msgspec.structs.replace(options, copy_weights=copy)
    ample = roomy(shape, options)
    needed = estimate(shape, ample).total + model.beside(ample)
    if room is None or needed <= room:
        return Fitted(ample, needed, True)
    chosen = fitting(shape, options, room - model.beside(options))
    if chosen is None:
        least = min(MIN_CONTEXT, shape.context)
        chosen = options if options.n_ctx or options.n_kv else msgspec.structs.replace(options, n_ctx=least, n_kv=least)
    needed = estimate(shape, chosen).total + model.beside(chosen)
    return Fitted(chosen, needed, chosen is options and (room is None or needed <= room))


class ModelSize(msgspec.Struct, frozen=True):
    """What decides how much memory it takes; the bytes of its projector and adapters, nearly all of them weights."""

    shape: Shape
    files: int
    draft: Shape | None

    def beside(self, options: EngineOptions) -> int:
        """Bytes of all that is loaded with it; a draft model has a context of the same size in the same process."""
        if self.draft is None:
            return self.files
        n_ctx, n_kv = sizes_of(self.shape, options)
        draft = estimate(self.draft, msgspec.structs.replace(options, n_ctx=n_ctx, n_kv=n_kv, prefix_cache=False))
        return self.files + draft.total - PROCESS


def read_model(path: Path, options: EngineOptions) -> ModelSize:
    """Blocks, 80 ms for a large vocabulary."""
    files = [file for file, _ in options.lora] + ([options.projector] if options.projector else [])
    return ModelSize(_shape(path), sum(Path(file).stat().st_size for file in files), _draft(options))


def _draft(options: EngineOptions) -> Shape | None:
    """None also for one that cannot be read: the model is started without it."""
    if options.draft is None or options.speculation == "off":
        return None
    try:
        return _shape(Path(options.draft))
    except (HaliError, OSError):
        return None


def _shape(path: Path) -> Shape:
    return shape_of([read_layout_file(part) for part in parts_beside(path)])
