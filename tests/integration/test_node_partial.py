"""Nodes that pull some layers of a model, keep them as a part, and serve them, through the real command and daemon."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from hali.model.units import PIECE
from tests.nodes import TestNode, node, sha256_of, until

FIRST, REST = (
    {0, 1, 2},
    {0, 1, 3, 4, 5},
)  # pieces of SmolLM2's layers 0-2 and 20-30, whose file has its layers in the order of their names
MODEL = "smollm2:135m:instruct:q4_1"


def held(one: TestNode) -> set[int]:
    """The pieces that the node last began to serve of its only part."""
    return set(one.events("partials.seeded")[-1]["pieces"])


def listed(one: TestNode) -> list[tuple[str, str]]:
    return [(row["state"], row.get("layers", "")) for row in one.ok("list")]


def test_parts_of_two_nodes_make_a_whole_after_the_source_has_gone_and_one_was_restarted(
    tmp_path: Path, smollm2: Path
) -> None:
    with ExitStack() as stack:
        a, b, c, d = (stack.enter_context(node(tmp_path / name)) for name in "abcd")
        added = a.add(smollm2)
        for each in (b, c):
            each.start()
            each.hears(added["model_id"])
        first = b.ok("pull", added["model_id"], "--layers", "0-2")
        rest = c.ok("pull", added["magnet"], "--layers", "20-30")
        assert (first["state"], first["layers"], rest["layers"]) == ("partial", "0-2", "20-30")
        assert first["model_id"] == rest["model_id"] == added["model_id"]
        assert (held(b), held(c)) == (FIRST, REST)
        assert first["came"] < 4 * PIECE and first["on_disk"] < 4 * PIECE < rest["on_disk"] < 6 * PIECE
        a.stop()
        b.restart()
        until(lambda: held(b) == FIRST and len(b.events("partials.seeded")) == 2, "the part is served again")
        d.start()
        d.hears(added["model_id"])
        # Nobody has the whole: a name alone must not begin what may never end.
        assert "no model" in d.fails("pull", added["model_id"], code=3)
        whole = d.ok("pull", added["magnet"])
        assert sha256_of(Path(whole["path"])) == added["sha256"] == whole["sha256"]
        assert whole["state"] == "seeding"
        assert listed(b) == [("partial", "0-2")] and listed(d) == [("seeding", "")]


def test_a_part_is_extended_shown_finished_by_a_plain_pull_and_no_piece_comes_twice(
    tmp_path: Path, smollm2: Path
) -> None:
    with node(tmp_path / "a") as a, node(tmp_path / "b") as b:
        added = a.add(smollm2)
        b.start()
        b.hears(added["model_id"])
        b.ok("pull", added["model_id"], "--layers", "0-1")
        more = b.ok("pull", added["magnet"], "--layers", "1-2")
        assert (more["layers"], held(b)) == ("0-2", FIRST)
        again = b.ok("pull", added["model_id"], "--layers", "0-2")
        assert (again["came"], again["layers"]) == (0, "0-2")
        info = b.ok("info", "smollm2")
        assert (info["state"], info["size"], info["error"]) == ("partial", added["size"], None)
        b.stop()
        assert b.ok("info", added["infohash_v2"])["layers"] == "0-2", "also without a daemon"
        assert b.ok("list")[0]["on_disk"] == info["on_disk"]
        b.start()
        b.hears(added["model_id"])
        whole = b.ok("pull", added["model_id"])
        assert whole["came"] == added["size"] - 3 * PIECE
        assert sha256_of(Path(whole["path"])) == added["sha256"]
        assert listed(b) == [("seeding", "")]
        assert not list((b.paths.home / "models" / ".partial").iterdir())


@pytest.mark.parametrize("running", [True, False], ids=["daemon", "no daemon"])
def test_a_part_is_removed(tmp_path: Path, smollm2: Path, running: bool) -> None:
    with node(tmp_path / "a") as a, node(tmp_path / "b") as b:
        added = a.add(smollm2)
        b.start()
        b.hears(added["model_id"])
        b.ok("pull", added["model_id"], "--layers", "0-1")
        if not running:
            b.stop()
        removed = b.ok("rm", MODEL)
        assert removed["model_id"] == MODEL and removed["freed"] > PIECE
        assert listed(b) == []
        assert b.fails("info", MODEL, code=3)


def test_a_part_that_was_changed_on_disk_is_read_again_and_serves_only_what_is_right(
    tmp_path: Path, smollm2: Path
) -> None:
    with node(tmp_path / "a") as a, node(tmp_path / "b") as b:
        added = a.add(smollm2)
        b.start()
        b.hears(added["model_id"])
        part = b.ok("pull", added["model_id"], "--layers", "0-2")
        b.stop()
        with Path(part["path"]).open("r+b") as file:
            file.seek(PIECE + 5)
            file.write(b"damage")
        b.start()
        until(lambda: held(b) == {0, 2}, "only the right pieces are served")
        b.hears(added["model_id"])
        assert b.ok("pull", added["model_id"], "--layers", "0-2")["came"] == PIECE


def test_what_is_no_layer_of_the_model_is_refused_in_one_line(tmp_path: Path, smollm2: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_bytes(json.dumps({"no": "model"}).encode() * 100)
    with node(tmp_path / "a") as a, node(tmp_path / "b") as b:
        added, other = a.add(smollm2), a.add(text, copy=True)
        b.start()
        b.hears(added["model_id"])
        assert "has 30" in b.fails("pull", added["magnet"], "--layers", "20-31", code=2, told_before=True)
        assert "not a GGUF" in b.fails("pull", other["magnet"], "--layers", "0-1", code=2, told_before=True)
        assert "no range of layers" in b.fails("pull", added["magnet"], "--layers", "7", code=2)
        assert listed(b) == []
