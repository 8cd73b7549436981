"""hali:// links: written by anybody, so nothing but names gets through."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hali.model.errors import UsageError
from hali.model.filenames import is_safe_path
from hali.share.targets import MagnetTarget, NameTarget, RepoTarget, Target, parse_link, parse_target

SHA = "ab" * 32
LINK = "hali://model/"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("hali://model/o/r", RepoTarget("o/r")),
        ("HALI://Model/o/r:Q4_K_M", RepoTarget("o/r", quant="Q4_K_M")),
        ("hali://model/o/r%3AQ4_K_M", RepoTarget("o/r", quant="Q4_K_M")),
        ("hali://model/o/r?version=latest", RepoTarget("o/r")),
        ("hali://model/o/r?file=a%20b/m.gguf&version=v1.0", RepoTarget("o/r", "v1.0", file="a b/m.gguf")),
        ("hali://model/smollm2:135m:instruct:q4_1", NameTarget("smollm2:135m:instruct:q4_1")),
        (f"hali://model/{SHA.upper()}", NameTarget(SHA)),
        (f"hali://model/{SHA[:40]}", MagnetTarget(f"magnet:?xt=urn:btih:{SHA[:40]}")),
    ],
)
def test_a_link_names_what_the_same_words_name(link: str, target: Target) -> None:
    assert parse_target(f" {link} ") == target


REFUSED = [
    "hali://",
    "hali://model",
    "hali://model/",
    "hali://model/smollm2",  # part of an id is a guess, and a link must not guess
    "hali://other/o/r",
    "hali://user@model/o/r",
    "hali://model:80/o/r",
    "hali://model/o/r/",
    "hali://model//o/r",
    "hali://model/o/r/x",
    "hali://model/o/r@main",
    "hali://model/o/r:",
    "hali://model/o/r:Q4?file=m.gguf",
    "hali://model/o/..",
    "hali://model/../r",
    "hali://model/o/r..x",
    "hali://model/o%2F..%2Fr",
    "hali://model/o/r%",
    "hali://model/o/r%2",
    "hali://model/o/r%zz",
    "hali://model/o/r%2541",  # encoded twice
    "hali://model/o/r%00",
    "hali://model/o/r%FF",
    "hali://model/o/r%0A",
    "hali://model/o/r%E2%80%AE",  # right-to-left override
    "hali://model/o%5Cr",
    "hali://model/o/r#x",
    "hali://model/o/r?all=1",
    "hali://model/o/r?version",
    "hali://model/o/r?version=",
    "hali://model/o/r?version=a&version=b",
    "hali://model/o/r?version=a/b",
    "hali://model/o/r?version=-x",
    "hali://model/o/r?file=/etc/passwd",
    "hali://model/o/r?file=../m.gguf",
    "hali://model/o/r?file=a//m.gguf",
    "hali://model/o/r?file=./m.gguf",
    "hali://model/o/r?file=C:m.gguf",
    "hali://model/o/r?file=http://10.0.0.1/m.gguf",
    "hali://model/o/r?file=" + "x" * 513,
    "hali://model/o/r?file=%252e%252e%252fm.gguf",
    "hali://model/o/r?x.pe=127.0.0.1:80",
    f"hali://model/{SHA}?file=m.gguf",
    f"hali://model/{SHA[:41]}",
    "hali://model/magnet:?xt=urn:btih:" + SHA[:40],
    "hali://model/http://127.0.0.1/x.torrent",
    "hali://model/hali://model/o/r",
    "hali://model/127.0.0.1:47433/x",
    "hali://model/x.torrent",
    "hali://model/~/x.torrent",
    "hali://model/" + "o" * 2048,
]


@pytest.mark.parametrize("link", REFUSED)
def test_anything_else_is_refused(link: str) -> None:
    with pytest.raises(UsageError, match="cannot follow"):
        parse_target(link)


SYNTAX = ["/", "..", ".", ":", "?", "&", "=", "\\", "#", "@", "~", " ", "%2e%2e", "%2F", "%25", "%00", "\u202e"]
WORDS = ["o/r", "o", "Q4_K_M", "file", "version", "127.0.0.1", "[::1]", "x.torrent", SHA, SHA[:40], "a:b:c:d"]
NESTED = ["http://", "magnet:", "hali://model/", "x.pe=10.0.0.1:1", "ws=http%3A%2F%2F10.0.0.1"]
PIECES = st.sampled_from([*SYNTAX, *WORDS, *NESTED])


@given(st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=60))
@example("o/r?file=a/b.gguf&version=main")
@example("a:b:c:d")
def test_whatever_a_link_says_only_names_come_out(rest: str) -> None:
    try:
        target = parse_link(LINK + rest)
    except UsageError:
        return
    match target:
        case RepoTarget(repo=repo, revision=revision, quant=quant, file=file):
            owner, name = repo.split("/")
            assert owner and name
            for text in (repo, revision or "", quant or "", file or ""):
                assert text.isprintable()
                assert ".." not in text
                assert not set(text) & set("%\\:?#")
            assert not (file or "").startswith("/")
        case NameTarget(name=name):
            assert len(name) == 64 or name.count(":") == 3
            assert not set(name) & set("/%\\?#")
        case MagnetTarget(uri=uri):
            assert uri.startswith("magnet:?xt=urn:btih:")
            assert len(uri) == len("magnet:?xt=urn:btih:") + 40  # no peer, no web seed, no tracker
        case _:
            pytest.fail(f"{target} is no name")


NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", fullmatch=True)
FILE = (
    st.lists(st.text("abc XYZ äß._-0", min_size=1, max_size=20), min_size=1, max_size=3)
    .map("/".join)
    .filter(is_safe_path)
)


@given(NAME, NAME, st.none() | NAME, FILE)
def test_a_link_made_of_a_repository_and_a_file_leads_back_to_them(
    owner: str, name: str, version: str | None, file: str
) -> None:
    if ".." in file or "." in file.split("/"):
        return
    link = f"{LINK}{quote(owner)}/{quote(name)}?file={quote(file, safe='')}"
    link += f"&version={version}" if version else ""
    assert parse_link(link) == RepoTarget(f"{owner}/{name}", None if version == "latest" else version, None, file)
