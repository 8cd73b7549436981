"""GGUF files that llama.cpp can load, told from those that would kill or mislead it. Headers only; weights are not read.

Errors: ``Refused``, and ``OSError`` with errno and the file's name from the operating system.
"""

import os
from collections.abc import Sequence

__all__ = ["Refused", "check", "check_adapter", "check_header"]

class Refused(ValueError):
    """A file that must not reach llama.cpp.

    ``args`` are a short word for tests and logs, a sentence for people, and the number of the file it is about.
    """

    args: tuple[str, str, int]

def check(paths: Sequence[str | os.PathLike[str]]) -> None:
    """Refused unless the files of one model, the first one first, may be loaded.

    At most 128 MiB are read of each, and other threads run meanwhile.
    """

def check_adapter(path: str | os.PathLike[str]) -> None:
    """Refused unless a LoRA adapter may be loaded; whether it fits a model is llama.cpp's to say."""

def check_header(path: str | os.PathLike[str]) -> None:
    """Refused unless the header of a file of any kind is well formed and its tensors lie inside it: for projectors."""
