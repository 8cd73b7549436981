"""Models of a store for the tests of exports: small real GGUF files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from hali.export.model import StoredModel, StoredPart
from hali.model.names import derive
from tests.unit.wire.gguf_files import LLAMA, gguf, pair

CHATML = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
TALKING = [*LLAMA[:-1], pair("tokenizer.chat_template", 8, CHATML), pair("general.license", 8, "mit")]
PROJECTOR = [pair("general.architecture", 8, "clip"), pair("general.type", 8, "mmproj")]


def stored(
    folder: Path, file: str = "Tiny-1M-Chat.Q4_K_M.gguf", pairs: list[bytes] = TALKING, **fields: Any
) -> StoredModel:
    """A model in `folder`, as the store describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file
    path.unlink(missing_ok=True)
    path.write_bytes(data := gguf(pairs))
    found = StoredModel(str(derive(file)), hashlib.sha256(data).hexdigest(), len(data), str(path), [file], "stored")
    return msgspec.structs.replace(found, **fields)


def bundle(model: StoredModel, *others: StoredModel) -> StoredModel:
    """`model` and `others`, which lie beside it, as one model of several files."""
    files = [model, *others]
    return msgspec.structs.replace(
        model,
        sha256=hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest(),
        size=sum(file.size for file in files),
        files=[file.file.name for file in files],
        parts=[StoredPart(file.file.name, file.size, file.sha256) for file in files],
    )


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file below `root` with its inode and modification time."""
    return {
        path.relative_to(root).as_posix(): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if not path.is_dir()
    }
