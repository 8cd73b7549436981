"""What was asked for is told apart by its form alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.model.errors import UsageError
from hali.share.targets import MagnetTarget, NameTarget, RepoTarget, Target, TorrentTarget, parse_target

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("what", "target"),
    [
        ("magnet:?xt=urn:btih:" + HASH, MagnetTarget("magnet:?xt=urn:btih:" + HASH)),
        (HASH.upper(), MagnetTarget("magnet:?xt=urn:btih:" + HASH)),
        ("/a/b.torrent", TorrentTarget("/a/b.torrent")),
        ("b.torrent", TorrentTarget(str(Path.cwd() / "b.torrent"))),
        ("https://x.example/b.torrent", TorrentTarget("https://x.example/b.torrent")),
        ("owner/repo", RepoTarget("owner/repo")),
        ("owner/repo:Q4_K_M", RepoTarget("owner/repo", quant="Q4_K_M")),
        ("owner/repo@abc/dir/f.gguf", RepoTarget("owner/repo", revision="abc", file="dir/f.gguf")),
        (" SmolLM2:135m:instruct:q4_1 ", NameTarget("smollm2:135m:instruct:q4_1")),
        ("ab" * 32, NameTarget("ab" * 32)),
        ("nosuch", NameTarget("nosuch")),
        ("Qwen coder 7b", NameTarget("qwen coder 7b")),
        ("hali:7b:base:q4_0", NameTarget("hali:7b:base:q4_0")),
        ("hali://model/o/r", RepoTarget("o/r")),
    ],
)
def test_this_text_means_that(what: str, target: Target) -> None:
    assert parse_target(what) == target


@pytest.mark.parametrize(
    "what", ["", "  ", "a\nb", "a\x00", "x" * 9000, "ftp://x/y", "file:///etc/passwd", "../../x", "/etc/passwd"]
)
def test_anything_else_is_refused(what: str) -> None:
    with pytest.raises(UsageError):
        parse_target(what)
