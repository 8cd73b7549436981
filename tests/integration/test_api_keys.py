"""Keys of a running daemon: made, limited, listed and revoked by the command line, and kept across a restart."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.nodes import TestNode, node

CHAT = "/v1/chat/completions"
ASK = {"model": "nosuch", "messages": [{"role": "user", "content": "hi"}]}


def client(daemon: TestNode, key: str) -> httpx.Client:
    return httpx.Client(base_url=daemon.status()["http"], headers={"authorization": f"Bearer {key}"}, timeout=30)


def test_a_key_lives_and_dies_without_a_restart_and_outlives_one(tmp_path: Path) -> None:
    with node(tmp_path / "n", api_require_key="on") as daemon:
        daemon.start()
        made = daemon.ok("keys", "create", "ci", "--scope", "inference", "--rpm", "2", "--expires", "30d")
        owner = daemon.paths.api_key.read_text().strip()
        shown = daemon.hali("keys", "create", "app")
        assert shown.stdout.startswith("hali-") and "not shown again" in shown.stderr
        app = shown.stdout.strip()
        with client(daemon, made["key"]) as ci:
            assert ci.get("/v1/models").status_code == 403
            answers = [ci.post(CHAT, json=ASK) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [404, 404, 429]
            assert 1 <= int(answers[2].headers["retry-after"]) <= 30
            assert answers[2].headers["x-ratelimit-limit-requests"] == "2"
        with client(daemon, owner) as mine:
            text = mine.get("/metrics").text
            assert f'hali_requests_total{{dialect="openai",method="POST",route="{CHAT}",status="429"}} 1.0' in text
            for name in ("hali_queue_length", "hali_engines", "hali_torrent_peers", "hali_lan_nodes"):
                assert f"\n{name} 0.0\n" in text
        listed = daemon.hali("keys", "list").stdout
        assert "ci" in listed and "inference,models" in listed and made["key"] not in listed and app not in listed
        assert daemon.ok("keys", "revoke", "ci") == {"name": "ci"}
        with client(daemon, made["key"]) as ci:
            assert ci.get("/health").status_code == 401
        daemon.restart()
        for key, status in ((app, 200), (owner, 200), (made["key"], 401), ("hali-", 401)):
            with client(daemon, key) as one:
                assert one.get("/v1/models").status_code == status


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("create", "a b"), 2, "name"),
        (("create", "a", "--scope", "root"), 2, "no scope 'root' — scopes: inference, models, manage, metrics"),
        (("create", "a", "--expires", "soon"), 2, "soon"),
        (("create", "a", "--rpm", "-1"), 2, "rpm"),
        (("revoke", "a"), 3, "no key called a"),
    ],
    ids=lambda value: str(value),
)
def test_what_cannot_be_is_told_with_its_exit_code(
    running: TestNode, args: tuple[str, ...], code: int, words: str
) -> None:
    assert words in running.fails("keys", *args, code=code)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> TestNode:
    """One daemon for all; nothing that these tests do changes it."""
    with node(tmp_path_factory.mktemp("keys") / "n") as daemon:
        daemon.start()
        yield daemon  # type: ignore[misc]
