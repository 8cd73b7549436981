"""Lines of a configuration that cannot be read are found where they begin, and nothing else is touched."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.config.load import load
from hali.config.mending import MARK, Fault, mended, readable

GOOD = "debug = true\n# a comment\n[lan]\nport = 5000\n"


def lines_of(faults: list[Fault]) -> list[int | None]:
    return [fault.line for fault in faults]


def test_a_valid_file_stays_as_it_is() -> None:
    assert mended(GOOD.encode()) == (GOOD, [])
    assert mended(b"") == ("", [])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("this is no TOML", "Expected '='"),
        ('peers = ["a", ', "Invalid value"),
        ('hmac_shared_secret = """', "Unterminated string"),
        ("enabled = 3", "lan.enabled: Expected `bool`"),
        ("prot = 4", "unknown configuration key 'lan.prot'"),
        ("port = 4\nport = 5", "Cannot overwrite a value"),
    ],
)
def test_a_bad_line_is_named_where_it_begins_and_becomes_a_comment(bad: str, reason: str) -> None:
    text = f"debug = true\n[lan]\n{bad}\n\n[api]\nqueue = 7\n"
    mended_text, faults = mended(text.encode())
    at = 2 + len(bad.splitlines())
    assert lines_of(faults) == [at]
    assert reason in faults[0].reason
    assert mended_text.splitlines()[at - 1] == MARK + bad.splitlines()[-1]
    assert tomllib.loads(mended_text)["api"] == {"queue": 7}


def test_several_faults_are_all_found() -> None:
    text = 'debug = "maybe"\nworse\n[torrent]\nupnp = false\n[no such\nport = 1\n[api]\nqueue = 0\n'
    mended_text, faults = mended(text.encode())
    assert lines_of(faults) == [1, 2, 5, 8]
    assert tomllib.loads(mended_text) == {"torrent": {"upnp": False}, "api": {}}


def test_a_value_over_several_lines_goes_as_a_whole() -> None:
    text = 'schedule = [\n  "mon 1:00-2:00 dance",\n  "sun 1:00-2:00 pause",\n]\ndebug = true\n'
    mended_text, faults = mended(text.encode())
    assert faults[0].line == 1
    assert tomllib.loads(mended_text) == {"debug": True}


def test_bytes_that_are_no_utf_8_cost_their_line_only() -> None:
    mended_text, faults = mended(b"debug = true\nmodels_dir = '\xff'\n")
    assert lines_of(faults) == [2]
    assert tomllib.loads(mended_text) == {"debug": True}


def test_secret_values_are_not_in_the_reasons() -> None:
    _, faults = mended(b'[lan]\nhmac_shared_secret = "hunter2"\n[handoff]\nqbittorrent_password = 77777\n')
    assert len(faults) == 2
    assert not any(secret in fault.reason for fault in faults for secret in ("hunter2", "77777"))


def test_settings_are_read_without_what_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("debug = true\ndaemon_port = -1\n")
    loaded, faults = readable(path, {"HALI_TORRENT_PORT": "many", "HALI_LAN_PORT": "77"})
    assert (loaded.settings.debug, loaded.settings.daemon_port, loaded.settings.lan.port) == (True, 47433, 77)
    assert [(fault.line, fault.variable) for fault in faults] == [(2, None), (None, "HALI_TORRENT_PORT")]
    assert readable(tmp_path / "none", {})[1] == []


WORDS = st.sampled_from(
    [
        *GOOD.splitlines(),
        "[api",
        "]",
        '"""',
        "a = [",
        "queue = 7",
        "= 4",
        "[[lan]]",
        "lan = 3",
        "",
        "\x00",
        "\r",
        "\x0b",
        "# \x7f",
        "é",
    ]
)


@given(st.lists(WORDS, max_size=12))
def test_whatever_is_in_the_file_the_rest_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    text, faults = mended("\n".join(lines).encode())
    path = tmp_path_factory.mktemp("mended") / "config.toml"
    path.write_text(text)
    load(path, {})
    assert mended(text.encode()) == (text, [])
    assert all(fault.line is not None and fault.line <= max(1, len(lines)) for fault in faults)
