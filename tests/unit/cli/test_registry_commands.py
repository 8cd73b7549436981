"""The commands around registries: groups within groups, and what they say without a daemon or a registry."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from hali.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


def test_a_group_within_a_group_has_help_of_its_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "registry", "keys")
    assert code == 0
    assert out.startswith("usage: hali registry keys COMMAND")
    assert "rotate" in out and "revoke" in out
    code, out, _ = run(capsys, "registry", "keys", "revoke", "--help")
    assert (code, out.splitlines()[0]) == (0, "usage: hali registry keys revoke [--reason TEXT] [--yes]")
    code, _, err = run(capsys, "registry", "keys", "rotat")
    assert code == 2
    assert "did you mean rotate?" in err


def test_telemetry_status_shows_every_field_to_a_person(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, "telemetry", "status")
    assert (code, out) == (0, "telemetry is off\nNo registry server is configured, so nothing is sent.\n")
    monkeypatch.setenv("HALI_REGISTRY_URL", "https://r.example,https://s.example/f#ed25519:" + "ab" * 32)
    code, out, _ = run(capsys, "telemetry", "status")
    assert code == 0
    assert out.count("POST https://r.example/report") == 1
    assert "s.example" not in out  # a folder takes no reports
    shown = json.loads(out[out.index("{") :])
    assert set(shown) == {"document", "signature"}
    assert set(shown["document"]) == {"type", "reporter", "infohash_v2", "outcome", "day"}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("registry", "status"), 4),
        (("registry", "keys", "rotate"), 2),  # nobody is there to be asked
        (("registry", "keys", "revoke"), 2),
        (("registry", "serve", "--db", "x", "--dsn", "postgresql://x"), 2),
        (("registry", "serve", "--dsn", "mysql://x"), 2),
        (("registry", "serve", "--listen", "nowhere"), 2),
        (("registry", "serve", "--listen", "192.0.2.1:1"), 78),
        (("profile", "set"), 2),
    ],
)
def test_what_cannot_be_done_gets_one_line_and_its_exit_code(
    args: tuple[str, ...], code: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, *args)
    assert (found, out, len(err.splitlines())) == (code, "", 1), err


class Answers:
    """A daemon with one answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._answer = answer

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._answer


@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.parametrize(("state", "code"), [("refused", 7), ("queued", 0)])
def test_a_registry_that_refuses_ends_publish_with_exit_code_7_also_for_programs(
    flags: tuple[str, ...],
    state: str,
    code: int,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = {"url": "https://r.example", "state": state, "error": "no such publisher"}
    answer = {"model_id": "a:1m:base:q8_0", "infohash_v2": "0" * 64, "publisher": "1" * 64, "registries": [row]}
    monkeypatch.setattr("hali.cli.control.needed", lambda out: nullcontext(Answers(answer)))
    found, out, err = run(capsys, *flags, "publish", "a")
    assert (found, bool(err)) == (code, code != 0 and not flags)
    assert not flags or json.loads(out) == answer


def test_the_url_of_a_registry_that_is_down_is_told_once(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"url": "http://r.example", "state": "queued", "error": "http://r.example: ConnectError: refused"}
    answer = {"model_id": "a:1m:base:q8_0", "infohash_v2": "0" * 64, "publisher": "1" * 64, "registries": [row]}
    monkeypatch.setattr("hali.cli.control.needed", lambda out: nullcontext(Answers(answer)))
    _, out, _ = run(capsys, "publish", "a")
    assert out.splitlines()[1] == "  queued    http://r.example: ConnectError: refused"


def test_a_folder_that_cannot_be_made_for_the_database_is_told_with_what_to_do(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "registry", "serve", "--db", str(tmp_path / "file" / "below" / "r.db"))
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("hali: cannot make ") and "--db" in err


def test_a_file_that_is_no_database_is_told_with_what_to_do(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    code, _, err = run(capsys, "registry", "serve", "--db", str(tmp_path / "r.db"))
    assert code == 1
    assert "--db" in err
