"""How registries are named, and what is no name of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.config.registries import parse, parse_all
from hali.model.errors import UsageError

KEY = "ab" * 32


def test_a_server_has_no_pin_and_a_folder_has_one() -> None:
    assert (parse("https://r.example/x/").url, parse("https://r.example").pin) == ("https://r.example/x", None)
    assert parse("http://127.0.0.1:47440").folder is None
    named = parse(f"file:///srv/my%20models/#ed25519:{KEY.upper()}")
    assert (named.folder, named.pin) == (Path("/srv/my models"), KEY)
    assert parse(f"https://r.example/f#ed25519:{KEY}").pin == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://x",
        "https://",
        "file:///x",
        f"file://host/x#ed25519:{KEY}",
        "https://x#",
        "https://x#ed25519:ab",
        "https://me:secret@x",
        f"https://x#{KEY}",
    ],
)
def test_what_names_no_registry_is_a_configuration_error(text: str) -> None:
    if text == "https://x#":
        assert parse(text).pin is None  # an empty fragment says nothing
        return
    with pytest.raises(UsageError, match=r"registry\.url|URL"):
        parse(text)


def test_the_same_registry_twice_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="twice"):
        parse_all(("https://a", "https://a/"))
    assert len(parse_all(("https://a", "https://b"))) == 2
