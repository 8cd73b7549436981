"""docs/clients.md: each block runs as it is written, and prints what the page says it prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.doctors import with_command
from tests.nodes import WAIT_S, TestNode, node
from tests.pages import Block, as_said, blocks, run

pytestmark = pytest.mark.model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
EXAMPLES = [block for block in blocks(PAGE) if block.is_run]


@pytest.fixture(scope="module")
def there(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """A node with SmolLM2 in memory, and a `hali` that its examples find."""
    folder = tmp_path_factory.mktemp("docs")
    with node(folder / "node", lan_enabled="off") as made:
        url = made.start()["http"]
        made.add(smollm2)
        assert httpx.post(f"{url}/api/generate", json={"model": "smollm2"}, timeout=WAIT_S).status_code == 200
        yield with_command(made, folder / "bin")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.title}-{example.kind}")
def test_an_example_runs_as_it_is_written(there: TestNode, example: Block, tmp_path: Path) -> None:
    printed = run(example, there, tmp_path)
    assert printed.strip()
    if example.prints is not None:
        assert as_said(printed, example.prints)
    elif example.title == "curl":
        assert '"object":"chat.completion"' in printed
    elif example.title == "Headers":
        assert "decode;dur=" in printed


def test_every_client_has_an_example() -> None:
    titles = {example.title for example in EXAMPLES}
    assert titles >= {"curl", "OpenAI", "Anthropic", "Ollama", "llama-server", "MCP", "Keys", "Headers"}
    assert len(EXAMPLES) == len(blocks(PAGE))
