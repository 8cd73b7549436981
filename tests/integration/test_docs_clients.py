"""docs/clients.md: each block runs as it is written, and prints what the page says it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.nodes import WAIT_S, TestNode, node

pytestmark = pytest.mark.model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
USUAL = "127.0.0.1:47433"  # the address of the page; a test's node has another port
_BLOCK = re.compile(r"^(?:## (?P<title>[^\n]+)|```(?P<kind>\w+)\n(?P<text>.*?)^```)$", re.MULTILINE | re.DOTALL)


@dataclass
class Example:
    """A block that is run; `prints` is the block of kind `text` behind it, if there is one."""

    title: str
    kind: str
    text: str
    prints: str | None = None


def examples(page: str) -> list[Example]:
    """All of them, in order."""
    found: list[Example] = []
    title = ""
    for block in _BLOCK.finditer(page):
        if block["title"]:
            title = block["title"]
        elif block["kind"] == "text":
            found[-1].prints = block["text"]
        else:
            found.append(Example(title, block["kind"], block["text"]))
    return found


EXAMPLES = examples(PAGE.read_text())


@pytest.fixture(scope="module")
def there(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """A node with SmolLM2 in memory, and a `hali` that its examples find."""
    folder = tmp_path_factory.mktemp("docs")
    with node(folder / "node", lan_enabled="off") as made:
        url = made.start()["http"]
        made.add(smollm2)
        assert httpx.post(f"{url}/api/generate", json={"model": "smollm2"}, timeout=WAIT_S).status_code == 200
        command = folder / "bin" / "hali"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hali.cli "$@"\n')
        command.chmod(0o755)
        made.env["PATH"] = f"{command.parent}:{made.env['PATH']}"
        yield made


def run(example: Example, there: TestNode) -> str:
    """What it prints; it must succeed."""
    text = example.text.replace(USUAL, str(there.status()["http"]).removeprefix("http://"))
    shells = {"python": [sys.executable, "-c"], "sh": [shutil.which("bash") or "bash", "-eo", "pipefail", "-c"]}
    command = [*shells[example.kind], text]
    done = subprocess.run(command, env=there.env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.title}-{example.kind}")
def test_an_example_runs_as_it_is_written(there: TestNode, example: Example) -> None:
    printed = run(example, there).strip()
    assert printed
    if example.prints is not None:
        assert printed.splitlines() == example.prints.splitlines()
    elif example.title == "curl":
        assert '"object":"chat.completion"' in printed
    elif example.title == "Headers":
        assert "decode;dur=" in printed


def test_every_client_has_an_example() -> None:
    titles = {example.title for example in EXAMPLES}
    assert titles >= {"curl", "OpenAI", "Anthropic", "Ollama", "llama-server", "MCP", "Keys", "Headers"}
    assert PAGE.read_text().count("```") == 2 * (len(EXAMPLES) + sum(each.prints is not None for each in EXAMPLES))
