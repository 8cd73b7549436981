"""A real daemon, looked at: a pull from its beginning to its end, and the same numbers as the command line has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.fakes.hf_server import FakeHub
from tests.fakes.viewer import Viewer, viewer
from tests.nodes import TestNode, node, random_file, sha256_of, until

REPO, NAME = "owner/Seen-1B-GGUF", "Seen-1B-Q4_0.gguf"
RATE = 2_000_000  # bytes a second of each connection: the pull lasts for some snapshots
ALONE = {"lan_enabled": "off"}  # numbers that move by themselves could not be compared


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_file(tmp_path_factory.mktemp("files") / NAME, 34)


@contextmanager
def looked_at(tmp_path: Path, hub: FakeHub | None = None) -> Iterator[tuple[TestNode, Viewer]]:
    with node(tmp_path / "n", **ALONE, **({"hf_endpoint": hub.url} if hub else {})) as made:
        address = made.start()["http"]
        with viewer(address) as seen:
            yield made, seen


def still(stats: dict[str, Any]) -> dict[str, Any]:
    """What does not move by itself."""
    return {name: value for name, value in stats.items() if name != "uptime"}


def test_a_pull_is_seen_from_its_beginning_to_its_end_and_the_parts_are_what_the_command_line_says(
    file: Path, tmp_path: Path
) -> None:
    with FakeHub() as hub, looked_at(tmp_path, hub) as (b, seen):
        hub.add(REPO, {NAME: file})
        hub.faults.rate = RATE
        job = seen.press("pull", what=REPO)["job"]  # at once: the pull has hardly begun
        began = seen.hears("pull.started")
        assert began["fields"] == {"what": REPO, "job": job} and "pull.finished" not in seen.kinds()
        done = seen.hears("pull.finished")
        assert done["fields"]["job"] == job and done["toast_level"] == "success"
        assert "downloading" in seen.states
        models = b.ok("list")
        until(lambda: seen.parts["models"] == models, "the models are those of `hali list`")
        (model,) = models
        assert (model["model_id"], model["sha256"]) == (done["fields"]["model"], sha256_of(file))
        assert model["state"] == "seeding" and model["magnet"].startswith("magnet:?")
        assert seen.press("info", model=model["sha256"])["magnet"] == model["magnet"]
        stats = b.ok("stats", "--once")
        assert set(stats) == set(seen.parts["stats"])
        until(lambda: still(seen.parts["stats"]) == still(b.call("stats")), "the numbers are those of `hali stats`")
        assert seen.parts["engines"] == b.ok("ps") == []
        assert seen.parts["requests"] == stats["inference"]
        until(lambda: seen.parts["services"] == b.ok("daemon", "status")["services"], "the services too")
        shown = {row["key"]: row for row in seen.parts["settings"]["keys"]}
        for row in b.ok("config", "show")["keys"]:
            assert shown[row["key"]] == {**row, "pending": False}
        assert [kind for kind in seen.kinds() if kind.startswith("pull.")] == ["pull.started", "pull.finished"]
        seen.press("rm", model=model["sha256"])
        assert seen.hears("model.removed")["fields"] == {"model": model["model_id"]}
        until(lambda: seen.parts["models"] == [], "it is gone from the list")


def test_a_pull_that_fails_and_one_that_is_cancelled_say_so(file: Path, tmp_path: Path) -> None:
    with FakeHub() as hub, looked_at(tmp_path, hub) as (_, seen):
        hub.add(REPO, {NAME: file})
        hub.faults.rate = RATE // 8
        seen.press("pull", what="owner/nothing")
        assert seen.hears("pull.failed")["fields"]["error"]
        seen.press("pull", what=REPO)
        until(lambda: "downloading" in seen.states, "it is under way")
        assert seen.press("cancel", what=REPO) == {"cancelled": 1}
        assert seen.hears("pull.cancelled")["fields"]["what"] == REPO
        assert "pull.finished" not in seen.kinds()


def test_buttons_do_what_the_commands_do_and_two_who_look_are_told_the_same(file: Path, tmp_path: Path) -> None:
    with looked_at(tmp_path) as (b, seen), viewer(seen.address) as other:
        model = b.add(file)["model_id"]
        seen.press("pause")
        seen.press("pause")  # which changes nothing
        assert b.status()["paused"] is True
        seen.press("resume")
        seen.press("pin", model=model, pinned=True)
        assert seen.press("config_set", key="max_upload_mbps", value="7")["applied"] is True
        assert seen.press("config_set", key="engine.slots", value="3")["applied"] is False
        until(lambda: seen.parts["stats"]["upload_cap_mbps"] == 7.0, "the cap is in force")
        until(lambda: [row["pinned"] for row in seen.parts["models"]] == [True], "the model is pinned")
        shown = lambda: {row["key"]: row for row in seen.parts["settings"]["keys"]}  # noqa: E731
        until(lambda: shown()["max_upload_mbps"]["value"] == 7.0, "the new setting is shown")
        assert shown()["max_upload_mbps"]["source"] == "file" and not shown()["max_upload_mbps"]["pending"]
        kinds = ["daemon.started", "model.added", "transfers.paused", "transfers.resumed", *["settings.changed"] * 2]
        for each in (seen, other):
            until(lambda each=each: each.kinds() == kinds, "all of it is told, and nothing else")
        assert [e["fields"] for e in seen.events[-2:]] == [
            {"applied": "max_upload_mbps", "restart": ""},
            {"applied": "", "restart": "engine.slots"},
        ]
        until(lambda: seen.parts["models"] == other.parts["models"] == b.ok("list"), "both see the same models")


def test_a_file_that_was_changed_is_told_of_once(file: Path, tmp_path: Path) -> None:
    with looked_at(tmp_path) as (b, seen):
        model = b.add(file, copy=True)
        path = Path(model["path"])
        with path.open("r+b") as changed:
            changed.write(b"not what it was")
        for _ in range(2):
            with pytest.raises(HTTPError) as refused:
                seen.press("verify", model=model["sha256"])
            with refused.value as answer:
                assert answer.code == 422
        assert seen.hears("model.damaged")["fields"] == {"model": model["model_id"]}
        until(lambda: [row["state"] for row in seen.parts["models"]] == ["damaged"], "the list says so")
        assert seen.kinds().count("model.damaged") == 1


def test_a_page_that_stays_open_sees_the_end_and_comes_back_to_another_life(tmp_path: Path) -> None:
    with looked_at(tmp_path) as (b, seen):
        b.stop()
        seen.ended()
        assert seen.kinds()[-1] == "daemon.stopping"
        with viewer(b.start()["http"]) as again:
            started = again.hears("daemon.started")
            assert again.hello["boot"] != seen.hello["boot"] and again.hello["node"] == seen.hello["node"]
            assert started["seq"] == 1 and again.missed == seen.missed == 0
            until(lambda: len(again.parts) == 8, "all parts are there")
