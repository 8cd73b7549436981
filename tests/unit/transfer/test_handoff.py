"""The v1 torrent for clients that cannot read a v2 file tree, and a port on which something else listens.

What the real clients do is in tests/net/test_handoff.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import libtorrent as lt
import pytest

from hali.hashing.files import hash_file
from hali.model.errors import Failed
from hali.transfer import metainfo
from hali.transfer.handoff import Account, to_qbittorrent, to_transmission
from hali.transfer.v1_twin import v1_twin
from tests.nodes import random_file


def test_it_has_the_same_file_and_pieces_and_nothing_of_v2(tmp_path: Path) -> None:
    file = random_file(tmp_path / "model.gguf", 20)
    hybrid = metainfo.build(hash_file(file), file.name, webseeds=["https://example.org/model.gguf"])
    made, whole = metainfo.parse(v1_twin(hybrid)), metainfo.parse(hybrid)
    assert (made.name, made.length, made.piece_length) == (whole.name, whole.length, whole.piece_length)
    assert lt.bdecode(made.raw)[b"info"][b"pieces"] == lt.bdecode(hybrid)[b"info"][b"pieces"]
    assert made.infohashes.v2 is None and made.infohashes.v1 != whole.infohashes.v1
    assert made.webseeds == whole.webseeds


class Stranger(BaseHTTPRequestHandler):
    """Says 200 and a web page to everything."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def stranger() -> Iterator[Account]:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        yield Account(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("give", [to_qbittorrent, to_transmission])
def test_a_port_of_something_else_is_one_error(give: type, stranger: Account, tmp_path: Path) -> None:
    file = random_file(tmp_path / "model.gguf", 0.1)
    with pytest.raises(Failed, match="does not answer as the client would"):
        give(stranger, metainfo.build(hash_file(file), file.name), tmp_path)
