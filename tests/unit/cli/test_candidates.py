"""What Tab is offered; that the shells show it is in tests/integration/test_cli_completion.py."""

from __future__ import annotations

import pytest

from hali.cli.candidates import FILES, candidates


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("registry k", ["keys"]),
        ("registry keys ", ["rotate", "revoke"]),
        ("registry keys rev", ["revoke"]),
        ("registry keys revoke --r", ["--reason"]),
        ("registry nosuch ", []),
        ("registry keys nosuch ", []),
        ("registry index ", [FILES]),
        ("registry serve --db ", [FILES]),
        ("registry serve --dsn ", []),
        ("export ollama --dir ", [FILES]),
    ],
)
def test_groups_of_any_depth_and_files_wherever_one_is_wanted_are_completed(typed: str, offered: list[str]) -> None:
    assert [word for word, _ in candidates(typed.split(" "))] == offered
