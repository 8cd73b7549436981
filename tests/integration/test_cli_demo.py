"""`hali demo`: the whole story, and nothing left behind however it ends."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hali.config.paths import Paths
from hali.daemon.address import is_locked
from tests.nodes import WAIT_S, TestNode, node, until

FACTS = [
    "size",
    "import and hash",
    "pull, verify, place",
    "last byte to seeding",
    "time to first token",
    "tokens per second",
]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[TestNode]:
    """Where the demo runs: its nodes make their homes in `tmp_path`, and none of them may be left."""
    one = TestNode(tmp_path / "unused")
    one.env["TMPDIR"] = str(tmp_path)
    yield one
    assert left_over(tmp_path) == []


def left_over(folder: Path) -> list[str]:
    """Homes of demo nodes, and processes that live in one."""
    found = [str(path) for path in folder.glob("hali-demo-*")]
    for process in psutil.process_iter():
        try:
            home = process.environ().get("HALI_HOME", "")
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        if home.startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(f"process {process.pid}")
    return found


@pytest.mark.model
def test_the_demo_tells_its_story_in_plain_lines(here: TestNode, smollm2: Path) -> None:
    done = here.hali("demo", str(smollm2))
    assert done.returncode == 0, done.stderr
    assert "LAN AVAILABLE  smollm2:135m:instruct:q4_1" in done.stdout
    assert "\n>>> In one short sentence" in done.stdout
    summary = done.stdout.rpartition("── Summary")[2]
    for fact in (*FACTS, "sha256", "infohash v1", "infohash v2", "magnet"):
        assert f"\n{fact}" in summary
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.model
def test_the_second_node_is_kept_when_asked_and_answers(here: TestNode, smollm2: Path) -> None:
    done = here.hali("demo", str(smollm2), "--keep", "--json")
    assert done.returncode == 0, done.stdout
    facts = json.loads(done.stdout.splitlines()[-1])
    with node(Path(facts["home"])) as kept:
        with urllib.request.urlopen(f"{facts['http']}/v1/models", timeout=WAIT_S) as answer:
            assert [m["id"] for m in json.load(answer)["data"]] == [facts["model"]]
        assert kept.pid() == facts["pid"]
        assert kept.state_of(facts["sha256"]) == "seeding"
        homes = list(Path(facts["home"]).parent.iterdir())
        assert homes == [Path(facts["home"])]  # the first node is gone with its home
    assert facts["reply"]
    assert facts["from"] == {"lan": facts["size"]}
    for path in sorted(kept.paths.home.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    kept.paths.home.parent.rmdir()


@pytest.mark.parametrize(("content", "code"), [(None, 3), (b"# not a model", 2)])
def test_what_is_no_model_is_told_before_anything_starts(
    content: bytes | None, code: int, here: TestNode, tmp_path: Path
) -> None:
    file = tmp_path / "README.md"
    if content is not None:
        file.write_bytes(content)
    done = here.hali("demo", str(file))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1


def test_a_model_that_does_not_load_fails_the_demo_and_leaves_nothing(here: TestNode, tmp_path: Path) -> None:
    file = tmp_path / "Broken-1B-Q8_0.gguf"
    file.write_bytes(b"GGUF" + bytes(100_000))
    done = here.hali("demo", str(file))
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith("hali: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_interrupted_takes_its_nodes_along(
    number: signal.Signals, here: TestNode, smollm2: Path, tmp_path: Path
) -> None:
    with here.start_hali("demo", str(smollm2)) as demo:
        until(lambda: list(tmp_path.glob("hali-demo-*/b/daemon.addr")), "the second node runs")
        (root,) = tmp_path.glob("hali-demo-*")
        assert is_locked(Paths(root / "a"))
        demo.send_signal(number)
        assert demo.wait(WAIT_S) == 130
        assert demo.stderr is not None
        assert "Traceback" not in demo.stderr.read()
