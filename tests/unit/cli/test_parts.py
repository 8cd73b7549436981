"""Commands that need a whole model do not take a part of one for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.cli.main import main
from hali.store.models import ModelStore
from hali.store.partials import PartialMeta, PartialStore
from tests.unit.wire.gguf_files import LLAMA, gguf

PART = PartialMeta(
    model_id="tiny:1b:base:q8_0",
    file="tiny.gguf",
    size=len(gguf(LLAMA)),
    layers=[(0, 2)],
    infohash_v1="a" * 40,
    infohash_v2="b" * 64,
    downloaded_at="2026-01-02T03:04:05Z",
    mtime_ns=1,
    sha256="c" * 64,
)


@pytest.mark.parametrize(
    "command", [("export", "ollama", "tiny"), ("export", "lmstudio", "tiny"), ("handoff", "qbittorrent", "tiny")]
)
def test_a_part_of_a_model_is_neither_exported_nor_handed_over(
    command: tuple[str, ...], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ModelStore(home / "models")
    (store.incoming("k") / PART.file).write_bytes(gguf(LLAMA))
    PartialStore(store).place("k", PART)
    (home / "torrents").mkdir()
    (home / "torrents" / f"{PART.infohash_v1}.torrent").write_bytes(b"of the whole")
    folder = ("--dir", str(tmp_path / "other")) if command[0] == "export" else ()
    with pytest.raises(SystemExit) as caught:
        main([*command, *folder])
    assert caught.value.code == 7
    assert "in part only (layers 0-2)" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
