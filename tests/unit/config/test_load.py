"""Settings: where values come from, what is refused, what `config show` tells."""

from __future__ import annotations

import codecs
import fcntl
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hali.config import load as module
from hali.config.load import find_key, load, parse_text, store
from hali.config.mending import mended
from hali.config.schema import KEYS, Settings, value_of
from hali.model.errors import ConfigError, UsageError


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("max_upload_mbps = 1.0\nmax_download_mbps = 1.0\ndaemon_port = 1\n[lan]\nport = 5\n")
    env = {"HALI_MAX_DOWNLOAD_MBPS": "2", "HALI_DAEMON_PORT": "2"}
    found = load(path, env, {"daemon_port": "3"})
    rows = {row["key"]: (row["value"], row["source"]) for row in found.rows()}
    assert rows["max_upload_mbps"] == (1.0, "file")
    assert rows["max_download_mbps"] == (2.0, "env")
    assert rows["daemon_port"] == (3, "flag")
    assert rows["lan.port"] == (5, "file")
    assert rows["debug"] == (False, "default")


def test_every_key_is_shown_with_doc_source_environment_and_flag() -> None:
    rows = load(Path("/nonexistent/config.toml"), {}).rows()
    assert [row["key"] for row in rows] == list(KEYS)
    for row in rows:
        assert row["doc"].endswith(".")
        assert row["source"] == "default"
        assert row["env"].startswith("HALI_")
        assert row["flag"].startswith("--")
        assert isinstance(row["unit"], str)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_key_can_be_set_from_the_environment(key: object) -> None:
    from hali.config.schema import Key

    assert isinstance(key, Key)
    other = {bool: "true" if key.default is False else "false", int: "1", float: "2.5"}
    text = other.get(type(key.default), "/elsewhere")
    special = {"lan.hmac_shared_secret": "ab" * 32, "hf.endpoint": "http://127.0.0.1:1", "daemon_listen_addr": "::1"}
    special |= {
        "schedule": "mon 01:00-02:00 pause",
        "engine.lora": "m=/a.gguf",
        "engine.gpu_layers": "5",
        "engine.draft": "m=/a.gguf",
        "engine.speculation": "off",
        "upstream.urls": "http://a:1",
        "registry.url": "https://a",
        "lan.peers": "elsewhere:1",
    }
    text = special.get(key.name, "http://127.0.0.1:1" if key.name.endswith(("_url", "_endpoint")) else text)
    found = load(Path("/nonexistent"), {key.env: text})
    assert found.sources == {key.name: "env"}
    assert value_of(found.settings, key.name) != key.default


def test_the_name_other_tools_use_for_the_hub_is_understood_and_ours_wins() -> None:
    path = Path("/nonexistent")
    assert load(path, {"HF_ENDPOINT": "http://mirror"}).settings.hf.endpoint == "http://mirror"
    both = {"HF_ENDPOINT": "http://mirror", "HALI_HF_ENDPOINT": "http://ours"}
    assert load(path, both).settings.hf.endpoint == "http://ours"


def test_entries_of_the_schedule_are_separated_by_semicolons_because_lists_of_days_have_commas(tmp_path: Path) -> None:
    entries = ("mon-fri 08:00-18:00 down=20 up=5", "sat,sun 00:00-24:00 pause")
    store(tmp_path / "c", "schedule", "; ".join(entries))
    assert load(tmp_path / "c", {}).settings.schedule == entries


def test_a_wrong_entry_of_the_schedule_is_named_with_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "c").write_text('schedule = ["mon 01:00-02:00 pause", "mon 8-9 pause"]')
    with pytest.raises(ConfigError, match=r"c: schedule entry 'mon 8-9 pause': '8' is no time of day"):
        load(tmp_path / "c", {})
    with pytest.raises(UsageError, match="schedule entry 'mon'"):
        store(tmp_path / "d", "schedule", "mon")
    assert not (tmp_path / "d").exists()


def test_a_secret_is_masked(tmp_path: Path) -> None:
    store(tmp_path / "c", "lan.hmac_shared_secret", "ab" * 32)
    rows = {row["key"]: row["value"] for row in load(tmp_path / "c", {}).rows()}
    assert rows["lan.hmac_shared_secret"] == "********"
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("daemon_port", "70000"),
        ("daemon_port", "http"),
        ("max_upload_mbps", "-1"),
        ("debug", "maybe"),
        ("lan.hmac_shared_secret", "short"),
        ("hf.endpoint", "ftp://x"),
        ("hf.endpoint", "http://"),
        ("hf.endpoint", "http://hub:port"),
        ("daemon_listen_addr", "garbage"),
        ("registry.url", "nonsense"),
        ("registry.url", "https://h#ed25519:zz"),
        ("registry.url", "file:///no/key"),
        ("engine.slots", "0"),
        ("models_dir", "~nobody-of-this-name/x"),
        ("models_dir", "a\0b"),
        ("models_dir", "/a\udcff"),
        ("models_dir", f"/{'ü' * 128}/x"),
    ],
)
def test_a_wrong_value_is_refused_with_key_and_reason(key: str, text: str) -> None:
    with pytest.raises(UsageError, match=key):
        parse_text(find_key(key), text)


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_key("max_uploads_mbps")
    assert "max_upload_mbps" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["nonsense", "debug = 1", "no_such_key = 1", "daemon_port = 'x'", "\x00"])
def test_a_bad_file_is_a_configuration_error_that_names_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load(path, {})


def test_nobody_else_can_write_the_file_between_reading_and_writing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, alone = tmp_path / "config.toml", []

    def looking(act: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*args: Any) -> Any:
            with path.with_name("config.toml.lock").open("ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    alone.append(False)
                except BlockingIOError:
                    alone.append(True)
            return act(*args)

        return looked

    for name in ("read_file", "write_secret"):
        monkeypatch.setattr(module, name, looking(getattr(module, name)))
    store(path, "max_upload_mbps", "11")
    store(path, "lan.port", "5")
    assert alone == [True] * 4
    assert load(path, {}).sources.keys() == {"max_upload_mbps", "lan.port"}


def test_setting_a_key_keeps_comments_and_unsetting_restores_the_default(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("# mine\ndebug = true # loud\n")
    store(path, "lan.peers", "a, b:1")
    assert load(path, {}).settings.lan.peers == ("a", "b:1")
    store(path, "debug", None)
    store(path, "lan.peers", None)
    assert "# mine" in path.read_text()
    assert load(path, {}).settings == Settings()


def test_unsetting_a_key_that_is_not_set_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert not store(path, "api.queue", None)
    assert not path.exists()
    path.write_text("[lan]\nport = 5\n")
    assert not store(path, "api.queue", None)
    assert not store(path, "lan.peers", None)
    assert path.read_text() == "[lan]\nport = 5\n"
    assert store(path, "lan.port", None)
    assert load(path, {}).settings == Settings()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("foo = 1", "foo"),
        ("[a.b]\nc = 1", "a.b.c"),
        ("lan.peer = 1", "lan.peer"),
        ('"a.b" = 1', "a.b"),
        ('[x]\n"a b".c = 1', "x.a b.c"),
        ("[[foo]]\na = 1", "foo"),
        ("lan = 1", "lan"),
    ],
)
def test_an_unknown_key_of_the_file_is_named_with_the_command_that_takes_it_out(
    tmp_path: Path, text: str, name: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"debug = true # loud\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert f"unknown configuration key {name!r}" in caught.value.message
    assert f"`hali config unset {shlex.quote(name)}` takes it out" in str(caught.value.hint)
    assert store(path, name, None)
    assert load(path, {}).sources == {"debug": "file"}
    assert "# loud" in path.read_text()


def test_a_whole_table_is_no_key_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[lan]\nport = 5\n")
    for name in ("lan", "foo", "lan.", "lan.port.x"):
        with pytest.raises(UsageError, match="unknown configuration key"):
            store(path, name, None)
    assert path.read_text() == "[lan]\nport = 5\n"


def test_a_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "config.toml"
    real.write_text("# mine\n")
    link.symlink_to(real)
    store(link, "debug", "true")
    assert link.is_symlink()
    assert real.read_text() == "# mine\ndebug = true\n"


def test_a_mark_that_some_editors_put_in_front_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(codecs.BOM_UTF8 + b"debug = true\n")
    assert load(path, {}).settings.debug
    assert mended(path.read_bytes()) == ("debug = true\n", [])
    store(path, "debug", "false")
    assert not load(path, {}).settings.debug
