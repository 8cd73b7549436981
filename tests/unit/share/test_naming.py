"""The name under which a file comes into the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.share.library import name_file


@pytest.mark.parametrize(
    ("file", "repo", "inside", "name"),
    [
        ("gemma-3-4b-it-q4_0.gguf", None, None, "gemma-3:4b:it:q4_0"),
        ("gemma-3-4b-it-q4_0.gguf", "google/gemma-3-4b-it-qat-q4_0-gguf", None, "gemma-3:4b:it-qat:q4_0"),
        ("m-7b.gguf", "o/r", "Q6_K/m-7b.gguf", "m:7b:base:q6_k"),
        ("notes.txt", "o/r", None, "notes.txt:unknown:base:unknown"),
    ],
)
def test_repository_and_folder_tell_what_the_file_does_not(
    file: str, repo: str | None, inside: str | None, name: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(b"not a header")
    assert str(name_file(tmp_path / file, repo=repo, inside=inside)) == name
