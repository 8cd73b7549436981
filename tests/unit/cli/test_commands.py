"""What can be typed in a chat besides prompts, and what goes with a prompt."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hali.cli.attachments import MAX_IMAGE, content_of, image_url, response_format
from hali.cli.chat import ChatClient, Reply
from hali.cli.commands import Commands
from hali.cli.history import LONGEST, MOST, add, read
from hali.cli.main import main
from hali.model.errors import NotFound, UsageError
from hali.model.units import MIB
from tests.fakes.pictures import png, png_of

PNG = png(2, 2)
TURN = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


@pytest.fixture
def chat(tmp_path: Path) -> ChatClient:
    made = ChatClient("http://127.0.0.1:1", tmp_path / "api.key", "m", None, {"temperature": 0.7})
    made.history = [dict(each) for each in TURN]
    return made


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def commands(chat: ChatClient, told: list[str]) -> Commands:
    return Commands(chat, told.append)


@pytest.mark.parametrize("prompt", ["hello", "/etc/passwd is what?", "/ what", "a /clear", "//clear", "/Clear"])
def test_what_only_looks_like_a_command_is_a_prompt(prompt: str, commands: Commands) -> None:
    assert not commands.run(prompt)


def test_an_unknown_command_is_told_so_and_changes_nothing(commands: Commands, chat: ChatClient) -> None:
    with pytest.raises(UsageError, match="no command /clean"):
        commands.run("/clean")
    assert chat.history == TURN


def test_every_command_is_in_the_help(commands: Commands, told: list[str]) -> None:
    assert commands.run("/help") and commands.run("/?")
    words = told[0].split()
    assert {"/clear", "/system", "/set", "/image", "/retry", "/save", "/load", "/stats", "/help", "/bye"} <= set(words)
    assert told[0] == told[1]


def test_options_are_set_shown_and_set_back(commands: Commands, chat: ChatClient, told: list[str]) -> None:
    commands.run("/set temperature 0.2")
    commands.run("/set top_k 40")
    assert chat.options == {"temperature": 0.2, "top_k": 40}
    commands.run("/set temperature default")
    assert told == ["temperature: 0.2", "top_k: 40", "temperature: default"]
    commands.run("/set")
    assert "top_k: 40" in told[3:] and len(told) == 3 + 9


@pytest.mark.parametrize(
    "line", ["/set temperature 3", "/set top_k 1.5", "/set temperature nan", "/set seed x", "/set x 1"]
)
def test_what_is_no_value_of_an_option_is_refused(line: str, commands: Commands, chat: ChatClient) -> None:
    with pytest.raises(UsageError):
        commands.run(line)
    assert chat.options == {"temperature": 0.7}


def test_the_system_prompt_is_changed_and_taken_away(commands: Commands, chat: ChatClient) -> None:
    commands.run("/system speak like a pirate")
    assert chat.system == "speak like a pirate"
    commands.run("/system")
    assert chat.system == "speak like a pirate"
    commands.run("/system none")
    assert chat.system is None


def test_retry_asks_the_last_prompt_of_a_chat_again(commands: Commands, chat: ChatClient) -> None:
    commands.run("/retry")
    assert commands.reply is not None and chat.history == TURN
    commands.run("/clear")
    with pytest.raises(UsageError, match="nothing was asked"):
        commands.run("/retry")


def test_a_chat_is_saved_for_its_owner_and_goes_on(commands: Commands, chat: ChatClient, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    chat.system = "be kind"
    commands.run(f"/save {file}")
    commands.run(f"/save {file}")  # its own file may be written again
    assert file.stat().st_mode & 0o777 == 0o600
    commands.run("/clear")
    chat.system = None
    commands.run(f"/load {file}")
    assert (chat.history, chat.system) == (TURN, "be kind")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"hali_chat": 1}', '{"hali_chat": 1, "messages": [{"role": "x", "content": ""}]}']
)
def test_what_is_no_saved_chat_is_neither_loaded_nor_written_over(
    text: str, commands: Commands, chat: ChatClient, tmp_path: Path
) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(UsageError):
        commands.run(f"/load {file}")
    if "hali_chat" not in text:
        with pytest.raises(UsageError):
            commands.run(f"/save {file}")
    assert file.read_text() == text and chat.history == TURN
    with pytest.raises(NotFound):
        commands.run(f"/load {tmp_path / 'nothing'}")


def test_the_figures_of_the_last_reply_are_told_once_there_is_one(commands: Commands, told: list[str]) -> None:
    with pytest.raises(UsageError):
        commands.run("/stats")
    reply = Reply((event for event in ()), lambda _: None)
    reply.usage, reply.ttft_s, reply.total_s = {"prompt_tokens": 5, "completion_tokens": 11}, 0.5, 1.5
    commands.last = reply
    commands.run("/stats")
    assert "tokens_per_s: 10.0" in told and "prompt_tokens: 5" in told


def test_an_image_goes_before_its_question_as_a_data_url(commands: Commands, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(PNG)
    commands.run(f"/image {file}")
    (url,) = commands.images
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == PNG
    assert content_of("what is it?", commands.images) == [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "what is it?"},
    ]
    assert content_of("what is it?", ()) == "what is it?"


def test_an_image_without_a_name_is_asked_for(commands: Commands) -> None:
    with pytest.raises(UsageError, match="name a file"):
        commands.run("/image")


def test_what_is_no_image_or_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("GIF? no")
    (tmp_path / "large").write_bytes(PNG + bytes(MAX_IMAGE))
    (tmp_path / "bitmap").write_bytes(b"BM" + bytes(100))
    (tmp_path / "wide").write_bytes(png_of(100_000, 100_000, b""))
    for name, what in (("text", "a PNG"), ("bitmap", "a PNG"), ("large", "larger"), ("wide", "100000 × 100000 pixels")):
        with pytest.raises(UsageError, match=what):
            image_url(str(tmp_path / name))
    with pytest.raises(NotFound):
        image_url(str(tmp_path / "nothing"))


def read_from_a_pipe(read: Callable[[str], object], data: bytes) -> object:
    """What `read` makes of `/dev/fd/N`, as a shell writes `<(…)`."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return read(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        writer.join()


def test_of_a_pipe_no_more_is_read_than_the_api_takes_and_nothing_of_a_device(commands: Commands) -> None:
    assert read_from_a_pipe(image_url, PNG) == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert read_from_a_pipe(response_format, b"{}")
    for take, limit in ((image_url, MAX_IMAGE), (response_format, 8 * MIB)):
        with pytest.raises(UsageError, match="is larger than"):
            read_from_a_pipe(take, bytes(limit + 1))
    for device in ("/dev/zero", "/dev/null"):
        for take in (image_url, response_format):
            with pytest.raises(UsageError, match=f"{device} is a device"):
                take(device)
        for command in ("image", "load", "save"):
            with pytest.raises(UsageError, match=f"{device} is a device"):
                commands.run(f"/{command} {device}")


def test_images_that_are_too_large_together_are_refused_before_they_are_sent(
    commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / "half.png"
    half.write_bytes(PNG + bytes(MAX_IMAGE // 2))
    commands.run(f"/image {half}")
    with pytest.raises(UsageError, match=r"larger than 5\.5 MB together"):
        commands.run(f"/image {half}")
    assert len(commands.images) == 1
    with pytest.raises(SystemExit):
        main(["run", "any", "what?", "--image", str(half), "--image", str(half)])
    assert "together — make them smaller first" in capsys.readouterr().err


def test_a_form_is_json_or_a_schema_in_a_file(tmp_path: Path) -> None:
    assert response_format("json") == {"type": "json_object"}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps({"type": "object"}))
    assert response_format(str(file))["json_schema"]["schema"] == {"type": "object"}
    for text in ("{", "[1]", '"x"'):
        file.write_text(text)
        with pytest.raises(UsageError):
            response_format(str(file))
    with pytest.raises(NotFound):
        response_format(str(tmp_path / "nothing"))


def test_the_prompt_file_is_private_bounded_and_shared_by_two_chats(tmp_path: Path) -> None:
    file = tmp_path / "prompts"
    assert read(file) == []
    add(file, ["one", "x" * (LONGEST + 1), "two"])
    add(file, ["of another chat, \u2028 in one line"])
    assert read(file) == ["one", "two", "of another chat, \u2028 in one line"]
    assert file.stat().st_mode & 0o777 == 0o600
    add(file, [str(number) for number in range(MOST + 5)])
    assert read(file) == [str(number) for number in range(5, MOST + 5)]
