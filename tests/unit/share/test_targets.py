"""What was asked for is told apart by its form alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.model.errors import UsageError
from hali.share.targets import MagnetTarget, NameTarget, RepoTarget, Target, TorrentTarget, of_quant, parse_target

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


@pytest.mark.parametrize(
    ("what", "quant", "meant"),
    [
        ("o/r", "Q8_0", RepoTarget("o/r", quant="Q8_0")),
        ("o/r@v1", "Q8_0", RepoTarget("o/r", "v1", "Q8_0")),
        ("o/r:Q4_0", "Q8_0", RepoTarget("o/r", quant="Q4_0")),
        ("o/r/a.gguf", "Q8_0", RepoTarget("o/r", file="a.gguf")),
        ("tiny", "Q8_0", NameTarget("tiny:q8_0")),
        ("tiny:1b", " q8_0 ", NameTarget("tiny:1b:q8_0")),
        ("tiny:q8_0", "Q8_0", NameTarget("tiny:q8_0")),
        ("tiny", None, NameTarget("tiny")),
        ("tiny-q4_0.gguf", "Q8_0", NameTarget("tiny-q4_0.gguf")),
        ("a" * 64, "Q8_0", NameTarget("a" * 64)),
        ("bee", "Q8_0", NameTarget("bee:q8_0")),
        ("a" * 12, "Q8_0", NameTarget("a" * 12)),
        ("x.torrent", "Q8_0", parse_target("x.torrent")),
    ],
)
def test_a_quant_is_part_of_what_is_meant(what: str, quant: str | None, meant: Target) -> None:
    assert of_quant(parse_target(what), quant) == meant
