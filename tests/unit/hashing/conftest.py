"""Content for hashing tests: made once, cut to length by each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import blake3
import pytest

from hali.model.units import PIECE

LENGTH = 3 * PIECE + 4321  # several pieces, the last one short and not a whole number of blocks


@pytest.fixture(scope="session")
def content() -> bytes:
    """Bytes of `LENGTH` that look random and are the same in every run."""
    return blake3.blake3(b"hali unit tests").digest(length=LENGTH)


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes bytes to a file of their own and gives its path."""

    def write(data: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        return path

    return write
