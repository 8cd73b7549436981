"""docs/cli.md, docs/config.md, docs/events.md and docs/openapi.json come from the program and must be up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.cli.main import COMMANDS
from hali.cli.reference import REFRESH, documents, write
from hali.config.schema import KEYS

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize("name", documents())
def test_the_reference_is_up_to_date(name: str) -> None:
    path = DOCS / name
    current = path.exists() and path.read_text(encoding="utf-8") == documents()[name]
    assert current, f"docs/{name} is stale; refresh it with: {REFRESH}"


def test_every_command_and_key_is_in_it() -> None:
    made = documents()
    assert all(f"## hali {name}\n" in made["cli.md"] for name in COMMANDS)
    assert all(f"## {name}\n" in made["config.md"] for name in KEYS)
    assert "### hali daemon status" in made["cli.md"]
    assert "| `--quant QUANT` |" in made["cli.md"]
    assert '- type: `auto` or integer, -1 or more (layers)\n- default: `"auto"`' in made["config.md"]
    assert (
        "- type: integer, 0 to 65535 (port)\n- default: `47433`\n- environment: `HALI_DAEMON_PORT`" in made["config.md"]
    )


def test_writing_brings_only_stale_files_up_to_date(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    assert {path.name for path in write(folder)} == set(documents())
    (folder / "cli.md").write_text("old")
    assert write(folder) == [folder / "cli.md"]
    assert write(folder) == []
