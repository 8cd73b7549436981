"""The v1 torrent for clients that cannot read a v2 file tree."""

from __future__ import annotations

from pathlib import Path

import libtorrent as lt

from hali.hashing.files import hash_file
from hali.transfer import metainfo
from hali.transfer.handoff import v1_only
from tests.nodes import random_file


def test_it_has_the_same_file_and_pieces_and_nothing_of_v2(tmp_path: Path) -> None:
    file = random_file(tmp_path / "model.gguf", 20)
    hybrid = metainfo.build(hash_file(file), file.name, webseeds=["https://example.org/model.gguf"])
    made, whole = metainfo.parse(v1_only(hybrid)), metainfo.parse(hybrid)
    assert (made.name, made.length, made.piece_length) == (whole.name, whole.length, whole.piece_length)
    assert lt.bdecode(made.raw)[b"info"][b"pieces"] == lt.bdecode(hybrid)[b"info"][b"pieces"]
    assert made.infohashes.v2 is None and made.infohashes.v1 != whole.infohashes.v1
    assert made.webseeds == whole.webseeds
