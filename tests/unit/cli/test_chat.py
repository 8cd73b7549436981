"""The conversation: what is sent, what is remembered, how errors are told. Against a server of canned replies."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hali.cli.chat import ChatClient, Thought
from hali.cli.conversation import converse, show
from hali.cli.output import Output
from hali.cli.screen import DIM, PLAIN
from hali.model.errors import EngineFailed, Failed, NotFound, NotRunning, Overloaded, Refused, UsageError
from tests.waiting import WAIT_S


class Canned(BaseHTTPRequestHandler):
    """Answers each request with the next of `replies`: (status, body)."""

    replies: ClassVar[list[tuple[int, bytes]]] = []
    seen: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.seen.append(
            {
                "body": json.loads(self.rfile.read(int(self.headers["content-length"]))),
                "key": self.headers["authorization"],
            }
        )
        status, body = self.replies.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[str]:
    Canned.replies, Canned.seen = [], []
    with HTTPServer(("127.0.0.1", 0), Canned) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def events(*pieces: str, end: bytes = b"data: [DONE]\n\n") -> bytes:
    made = [{"choices": [{"delta": {"content": piece}, "finish_reason": None}]} for piece in pieces]
    made.append(
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    )
    return b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in made) + end


def client(url: str, tmp_path: Path, **options: Any) -> ChatClient:
    return ChatClient(url, tmp_path / "api.key", "m", options.pop("system", None), options)


def test_a_reply_comes_in_pieces_and_is_remembered(server: str, tmp_path: Path) -> None:
    Canned.replies = [(200, events("Grü", "ße")), (200, events("ok"))]
    chat = client(server, tmp_path, system="be kind", temperature=0.0, seed=None)
    reply = chat.say("hello")
    assert list(reply) == ["Grü", "ße"]
    assert (reply.text, reply.finish_reason, reply.timing()["completion_tokens"]) == ("Grüße", "stop", 3)
    list(chat.say("again"))
    sent = Canned.seen[1]["body"]
    assert [m["content"] for m in sent["messages"]] == ["be kind", "hello", "Grüße", "again"]
    assert sent["temperature"] == 0.0
    assert "seed" not in sent


def test_a_failed_turn_is_not_remembered_and_a_stopped_one_is(server: str, tmp_path: Path) -> None:
    broken = b'data: {"error": {"message": "engine died"}}\n\n'
    Canned.replies = [
        (200, events("par")[:-60].rpartition(b"data")[0] + broken),
        (200, events("one", "two")),
        (200, events("x")),
    ]
    chat = client(server, tmp_path)
    with pytest.raises(EngineFailed, match="engine died"):
        list(chat.say("first"))
    stopped = iter(chat.say("second"))
    assert next(stopped) == "one"
    stopped.close()  # type: ignore[attr-defined]
    list(chat.say("third"))
    assert [m["content"] for m in Canned.seen[2]["body"]["messages"]] == ["second", "one", "third"]


def test_a_reply_that_is_left_hangs_up_at_once_though_it_is_still_asked_for_its_timing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reply = client(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path).say("hello")
        pieces = iter(reply)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(next, pieces)
            served = listener.accept()[0]
            with served:
                served.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + events("one", end=b""))
                assert first.result() == "one"
                pieces.close()
                served.settimeout(WAIT_S)
                try:
                    while served.recv(4096):
                        pass
                except ConnectionResetError:  # it hung up without having read all
                    pass
    assert reply.timing()["ttft_s"] is not None


def test_clear_forgets(server: str, tmp_path: Path) -> None:
    Canned.replies = [(200, events("a")), (200, events("b"))]
    chat = client(server, tmp_path)
    list(chat.say("one"))
    chat.clear()
    list(chat.say("two"))
    assert [m["content"] for m in Canned.seen[1]["body"]["messages"]] == ["two"]


def test_a_stream_that_ends_without_its_end_is_an_error(server: str, tmp_path: Path) -> None:
    Canned.replies = [(200, events("par", end=b""))]
    with pytest.raises(Failed, match="ended too early"):
        list(client(server, tmp_path).say("hello"))


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (413, UsageError), (429, Overloaded), (500, EngineFailed)]
)
def test_an_error_of_the_api_keeps_its_words(status: int, kind: type[Exception], server: str, tmp_path: Path) -> None:
    Canned.replies = [(status, b'{"error": {"message": "no such thing"}}'), (status, b"<html>")]
    chat = client(server, tmp_path)
    with pytest.raises(kind, match="no such thing"):
        list(chat.say("hello"))
    with pytest.raises(kind, match=f"HTTP {status}"):
        list(chat.say("hello"))


def test_the_key_is_sent_when_there_is_one(server: str, tmp_path: Path) -> None:
    (tmp_path / "api.key").write_text("hali-secret\n")
    Canned.replies = [(200, events("a"))]
    list(client(server, tmp_path).say("hello"))
    assert Canned.seen[0]["key"] == "Bearer hali-secret"


def test_a_key_that_is_gone_is_told_with_who_knows_how_to_get_one(server: str, tmp_path: Path) -> None:
    Canned.replies = [(401, json.dumps({"error": {"message": "a valid API key is required"}}).encode())] * 2
    with pytest.raises(Refused, match=r"api\.key is gone") as caught:
        list(client(server, tmp_path).say("?"))
    assert caught.value.hint == "`hali doctor` tells how to get a new one"
    (tmp_path / "api.key").write_text("wrong")
    with pytest.raises(Refused, match="a valid API key is required"):
        list(client(server, tmp_path).say("?"))


def test_a_daemon_that_is_gone_is_told_with_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no daemon answers at http") as told:
        list(client("http://127.0.0.1:1", tmp_path).say("hello"))
    assert "`hali daemon start`" in str(told.value.hint)


def test_thoughts_are_told_apart_shown_dimmed_and_not_sent_again(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    thought = b'data: {"choices": [{"delta": {"reasoning_content": "hm"}, "finish_reason": null}]}\n\n'
    Canned.replies = [(200, thought + events("yes")), (200, thought + events("yes")), (200, thought + events("no"))]
    chat = client(server, tmp_path)
    reply = chat.say("hello")
    assert [(piece, isinstance(piece, Thought)) for piece in reply] == [("hm", True), ("yes", False)]
    assert (reply.text, reply.thoughts) == ("yes", "hm")
    show(Output(), chat, chat.say("piped"), loaded=True)
    assert capsys.readouterr().out == "yes\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    show(Output(), chat, chat.say("on a terminal"), loaded=True)
    assert capsys.readouterr().out == f"{DIM}hm{PLAIN}\n\nno\n"
    assert "hm" not in json.dumps(Canned.seen[2]["body"])


def conversation(chat: ChatClient, monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    """A chat in which this is typed."""
    lines = iter((*typed, "/bye"))
    monkeypatch.setattr("hali.cli.conversation.read_prompt", lambda: next(lines))
    converse(Output(), chat, loaded=True)


def asked() -> list[list[str]]:
    """What was sent in each request."""
    return [[message["content"] for message in each["body"]["messages"]] for each in Canned.seen]


FAILED = b'data: {"error": {"message": "engine died"}}\n\n'


def test_retry_asks_the_prompt_that_failed_again_and_not_the_one_before(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Canned.replies = [(200, FAILED), (200, events("1")), (200, FAILED), (200, FAILED), (200, events("2"))]
    chat = client(server, tmp_path)
    conversation(chat, monkeypatch, "one", "/retry", "two", "/retry", "/retry")
    assert asked() == [["one"], ["one"], *[["one", "1", "two"]] * 3]
    assert [turn["content"] for turn in chat.history] == ["one", "1", "two", "2"]


def test_a_turn_is_forgotten_only_once_its_retry_is_remembered(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Canned.replies = [(200, events("1")), (200, events("2")), (200, FAILED)]
    chat = client(server, tmp_path)
    conversation(chat, monkeypatch, "one", "same", "/retry")
    assert [turn["content"] for turn in chat.history] == ["one", "1", "same", "2"]
    Canned.replies = [(200, events()), (200, events("3")), (200, events("4"))]  # the first says nothing
    conversation(chat, monkeypatch, "/retry", "/retry", "same")
    assert [turn["content"] for turn in chat.history] == ["one", "1", "same", "3", "same", "4"]


def test_after_clear_there_is_nothing_to_retry(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Canned.replies = [(200, FAILED)]
    conversation(client(server, tmp_path), monkeypatch, "one", "/clear", "/retry")
    assert "nothing was asked yet" in capsys.readouterr().err


def test_what_the_daemon_tells_of_a_failed_reply_is_all_that_is_told(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Canned.replies = [(200, FAILED)]
    conversation(client(server, tmp_path), monkeypatch, "one")
    assert capsys.readouterr().err.splitlines()[-1] == "hali: engine died"


def test_an_error_in_the_middle_of_a_reply_begins_a_line_of_its_own(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Canned.replies = [(200, events("bella", end=b"")), (200, FAILED)]
    conversation(client(server, tmp_path), monkeypatch, "one", "two")
    assert (
        capsys.readouterr().out == "bella\n\n\n"
    )  # of each turn an empty line, too; nothing more where nothing was said
