"""Nodes that pull some layers of a model, keep them as a part, and serve them, through the real command and daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hali.model.units import PIECE
from tests.fakes.hf_server import FakeHub
from tests.nodes import TestNode, node, sha256_of, until

FIRST, REST = (
    {0, 1, 2},
    {0, 1, 3, 4, 5},
)  # pieces of SmolLM2's layers 0-2 and 20-30: its file has layer 10 after layer 1
MODEL = "smollm2:135m:instruct:q4_1"
REPO = "owner/SmolLM2-135M-Instruct-GGUF"


class Source(NamedTuple):
    """A node that has the whole model."""

    node: TestNode
    model: dict[str, Any]


@pytest.fixture(scope="module")
def source(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    with node(tmp_path_factory.mktemp("source") / "a") as a:
        yield Source(a, a.add(smollm2))


@pytest.fixture
def b(source: Source, tmp_path: Path) -> Iterator[TestNode]:
    """A node that has heard of the model."""
    with node(tmp_path / "b") as made:
        made.start()
        made.hears(MODEL)
        yield made


def held(one: TestNode) -> set[int]:
    """The pieces that the node last began to serve of its only part."""
    events = one.events("partials.seeded")
    return set(events[-1]["pieces"]) if events else set()


def layers_of(one: TestNode, what: str, layers: str) -> dict[str, Any]:
    """`hali pull WHAT --layers LAYERS`, without the command."""
    return one.call("pull", what=what, layers=layers)


def listed(one: TestNode) -> list[tuple[str, str]]:
    return [(row["state"], row.get("layers", "")) for row in one.ok("list")]


def test_parts_of_two_nodes_make_a_whole_after_the_source_has_gone_and_one_was_restarted(
    tmp_path: Path, smollm2: Path
) -> None:
    with ExitStack() as stack:
        a, b, c, d = (stack.enter_context(node(tmp_path / name)) for name in "abcd")
        added = a.add(smollm2)
        for each in (b, c):
            each.launch()
        for each in (b, c):
            each.ready()
            each.hears(MODEL)
        first, rest = layers_of(b, MODEL, "0-2"), layers_of(c, added["magnet"], "20-30")
        assert (first["state"], first["layers"], rest["layers"]) == ("partial", "0-2", "20-30")
        assert first["model_id"] == rest["model_id"] == MODEL
        assert (held(b), held(c)) == (FIRST, REST)
        # What libtorrent asked for before it was told what is not wanted stays below a piece.
        assert first["came"] == 3 * PIECE and first["on_disk"] < 4 * PIECE < rest["on_disk"] < 6 * PIECE
        assert b.call("stats")["down_total"] < 4 * PIECE
        a.stop()
        b.restart()
        until(lambda: held(b) == FIRST and len(b.events("partials.seeded")) == 2, "the part is served again")
        d.start()
        d.hears(MODEL)
        whole = d.pull(added["magnet"])
        assert sha256_of(Path(whole["path"])) == added["sha256"] == whole["sha256"]
        assert (listed(b), listed(d)) == ([("partial", "0-2")], [("seeding", "")])


def test_a_part_is_extended_shown_and_finished_by_a_plain_pull_and_no_piece_comes_twice(
    source: Source, b: TestNode
) -> None:
    model = source.model
    assert b.ok("pull", MODEL, "--layers", "0-1")["layers"] == "0-1"
    more = layers_of(b, model["magnet"], "1-2")
    assert (more["layers"], held(b)) == ("0-2", FIRST)
    again = layers_of(b, MODEL, "0-2")
    assert (again["came"], again["layers"]) == (0, "0-2")
    info = b.ok("info", "smollm2")
    assert (info["state"], info["size"], info["error"]) == ("partial", model["size"], None)
    (row,) = b.status()["seeding"]
    assert (row["model_id"], row["status"], row["layers"]) == (MODEL, "partial", "0-2")
    b.stop()
    assert b.ok("info", model["infohash_v2"]) == info, "also without a daemon"
    b.start()
    b.hears(MODEL)
    whole = b.pull(MODEL)
    assert whole["came"] == model["size"] - 3 * PIECE
    assert sha256_of(Path(whole["path"])) == model["sha256"]
    assert listed(b) == [("seeding", "")]
    assert not list((b.paths.home / "models" / ".partial").iterdir())


def test_a_part_whose_bytes_changed_is_read_again_and_serves_what_is_right_until_it_is_removed(
    source: Source, b: TestNode
) -> None:
    part = layers_of(b, MODEL, "0-2")
    b.stop()
    with Path(part["path"]).open("r+b") as file:
        file.seek(PIECE + 5)
        file.write(b"damage")
    b.start()
    until(lambda: held(b) == {0, 2}, "only the right pieces are served")
    b.hears(MODEL)
    assert "in part only (layers 0-2)" in b.fails("run", MODEL, "hello", code=7)
    info = b.ok("info", MODEL)
    assert (info["state"], "1 of its pieces" in info["error"]) == ("damaged", True)
    mended = layers_of(b, MODEL, "0-2")
    assert (mended["came"], mended["state"], mended["error"]) == (PIECE, "partial", None)
    assert "Removed" in b.hali("rm", MODEL, "-y").stdout
    assert listed(b) == [] and b.status()["seeding"] == []
    layers_of(b, MODEL, "0-1")
    b.stop()
    removed = b.ok("rm", MODEL)
    assert removed["model_id"] == MODEL and removed["freed"] > PIECE
    assert listed(b) == []


def test_a_part_is_served_again_when_the_pull_of_the_rest_is_cancelled(source: Source, tmp_path: Path) -> None:
    magnet = source.model["magnet"]
    with node(tmp_path / "b", max_download_mbps="120") as b:  # the rest takes 4 seconds
        b.start()
        b.hears(MODEL)
        layers_of(b, MODEL, "0-1")
        pulling = b.start_hali("pull", magnet)
        until(lambda: b.on_record() >= {0, 1}, "the pull of the rest has begun")
        assert b.call("cancel", what=magnet)["cancelled"] == 1
        pulling.communicate(timeout=60)
        assert listed(b) == [("partial", "0-1")] and len(b.events("partials.seeded")) == 2
        assert {0, 1} <= held(b)


def test_what_is_no_layer_of_the_model_is_refused_in_one_line(source: Source, b: TestNode, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"no model" * 100)
    other = source.node.add(tmp_path / "notes.txt", copy=True)
    assert "has 30" in b.fails("pull", source.model["magnet"], "--layers", "20-31", code=2, told_before=True)
    assert "not a GGUF" in b.fails("pull", other["magnet"], "--layers", "0-1", code=2, told_before=True)
    assert "no range of layers" in b.fails("pull", MODEL, "--layers", "7", code=2)
    assert listed(b) == []


@pytest.fixture
def hub(smollm2: Path) -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.add(REPO, {smollm2.name: smollm2})
        yield made


def test_a_repository_and_a_node_bring_a_part_together(source: Source, hub: FakeHub, tmp_path: Path) -> None:
    with node(tmp_path / "b", hf_endpoint=hub.url) as b:
        b.start()
        b.hears(MODEL)
        part = layers_of(b, REPO, "0-2")
        assert (part["layers"], part["sha256"], held(b)) == ("0-2", source.model["sha256"], FIRST)
        assert hub.bytes_sent < 5 * PIECE
        source.node.call("pause")
        try:
            # The repository alone brings the rest: the part was kept under what the magnet, or the repository, names.
            whole = b.pull(REPO)
        finally:
            source.node.call("resume")
        assert whole["came"] == source.model["size"] - 3 * PIECE
        assert sha256_of(Path(whole["path"])) == source.model["sha256"]


def test_a_repository_that_contradicts_the_torrent_leaves_no_part(source: Source, hub: FakeHub, tmp_path: Path) -> None:
    hub.faults.garble = True  # whichever piece it is asked for: the node may be faster with some
    with node(tmp_path / "b", hf_endpoint=hub.url, max_download_mbps="200") as b:
        b.start()
        b.hears(MODEL)
        assert "differs" in b.fails("pull", REPO, "--layers", "0-1", code=5, told_before=True)
        assert listed(b) == [] and not list((b.paths.home / "models" / ".incoming").iterdir())


def test_a_repository_alone_cannot_prove_a_part(hub: FakeHub, tmp_path: Path) -> None:
    with node(tmp_path / "b", hf_endpoint=hub.url, lan_enabled="off") as b:
        line = b.fails("pull", REPO, "--layers", "0-2", code=7, told_before=True)
        assert "the whole file's hashes" in line
        assert hub.bytes_sent == 0 and listed(b) == []
