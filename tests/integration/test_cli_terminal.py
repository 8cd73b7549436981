"""The command line in a real terminal (a pseudo-terminal): chat, progress bar, Ctrl-C, and a daemon that ends with its shell."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hali.cli.live import HOME, LEAVE
from hali.daemon.address import is_locked
from tests.nodes import SMOLLM2, TestNode, node, until
from tests.terminal import CTRL_C, CTRL_D, ESCAPES, Terminal, hali


@pytest.fixture(scope="module")
def seeder(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[TestNode]:
    """A node that has the model."""
    with node(tmp_path_factory.mktemp("seeder")) as made:
        made.ok("add", str(smollm2))
        yield made


@pytest.mark.model
def test_a_chat_goes_on_after_a_reply_was_stopped_and_ends_with_bye(seeder: TestNode) -> None:
    with hali(seeder, "run", "smollm2", "--temperature", "0", "--max-tokens", "3000") as chat:
        chat.until(">>> ")
        chat.type("Write a very long story about Zoë, the dragon of Zürich.\n")
        chat.until(lambda text: len(text.partition("Zürich.")[2].split()) > 20)
        assert "loading smollm2" in chat.text
        chat.type(CTRL_C)
        chat.until(lambda text: "(stopped)" in text and text.endswith(">>> "))
        until(lambda: all(e["active"] == 0 for e in seeder.call("ps")["engines"]), "the engine stopped too")
        chat.type("/clear\n")
        chat.until(lambda text: text.count(">>> ") >= 3)
        chat.type("/help\n")
        chat.until("begins and ends a prompt of several lines")
        chat.type("/bye\n")
        assert chat.end() == 0


@pytest.mark.model
def test_a_reply_is_wrapped_at_words_and_ctrl_d_ends_the_chat(seeder: TestNode) -> None:
    with hali(seeder, "run", "smollm2", "--temperature", "0", "--max-tokens", "60", columns=40) as chat:
        chat.until(">>> ")
        chat.type("Why is the sky blue?\n")
        chat.until(lambda text: text.partition("blue?")[2].endswith("\n>>> "))
        # A word that does not fit was taken back: cursor left, erase to the end of the line, next line.
        assert re.search(r"\x1b\[\d+D\x1b\[K\r?\n", chat.raw)
        chat.type(CTRL_D)
        assert chat.end() == 0


@pytest.mark.model
def test_ctrl_c_at_the_prompt_drops_the_line_and_twice_ends_the_chat(seeder: TestNode) -> None:
    with hali(seeder, "run", "smollm2") as chat:
        chat.until(">>> ")
        chat.type("never sent")
        chat.until("never sent")
        chat.type(CTRL_C)
        chat.until(lambda text: "Ctrl-C once more" in text and text.endswith(">>> "))
        chat.type(CTRL_C)
        assert chat.end() == 130
        assert "Traceback" not in chat.text


# A Ctrl-C where readline is between two waits for a key: its hook runs there, and is the function that marks a SIGINT.
BETWEEN = """
import ctypes, readline
from hali.cli.prompting import read_prompt

hook = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
hook.value = ctypes.cast(ctypes.pythonapi.PyErr_SetInterrupt, ctypes.c_void_p).value
try:
    read_prompt()
except KeyboardInterrupt:
    print("noticed")
"""


def test_ctrl_c_between_two_waits_for_a_key_is_noticed_without_another_key(tmp_path: Path) -> None:
    with node(tmp_path) as one, Terminal(one, sys.executable, "-c", BETWEEN) as prompt:
        prompt.until("noticed")
        assert prompt.end() == 0


def test_a_prompt_is_read_as_utf_8_in_a_locale_that_knows_no_letters(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = "from hali.cli.prompting import read_prompt; print(ascii(read_prompt()))"
    with node(tmp_path) as one, Terminal(one, sys.executable, "-c", code, **locale) as prompt:
        prompt.until(">>> ")
        prompt.type("Zoë\n")
        assert prompt.end() == 0
        assert r"'Zo\xeb'" in prompt.text


QUIET = """
import os, signal
from hali.cli.prompting import no_echo

with no_echo():
    print("quiet", os.getpid(), flush=True)
    signal.pause()
"""


def test_a_terminal_shows_what_is_typed_again_after_sigterm_in_the_middle_of_a_reply(tmp_path: Path) -> None:
    shell = f"{shlex.quote(sys.executable)} -c {shlex.quote(QUIET)}; stty -a"
    with node(tmp_path) as one, Terminal(one, "sh", "-c", shell) as terminal:
        found = re.search(r"quiet (\d+)", terminal.until(lambda text: re.search(r"quiet \d+\n", text)))
        assert found is not None
        os.kill(int(found[1]), signal.SIGTERM)
        assert terminal.end() == 0
        assert " echo " in terminal.text


def test_a_job_in_the_background_of_a_terminal_is_not_stopped_for_its_settings(tmp_path: Path) -> None:
    code = "from hali.cli.prompting import no_echo\nwith no_echo(): print('went on')"
    shell = f"set -m; {shlex.quote(sys.executable)} -c {shlex.quote(code)} & wait $!; echo ended with $?"
    with node(tmp_path) as one, Terminal(one, "sh", "-c", shell) as terminal:
        assert terminal.end() == 0
        assert terminal.text.split("\n") == ["went on", "ended with 0", ""]


@pytest.mark.model
def test_commands_change_a_chat_and_prompts_come_back_in_the_next_one(seeder: TestNode, tmp_path: Path) -> None:
    saved = tmp_path / "chat.json"
    with hali(seeder, "run", "smollm2", "--temperature", "0", columns=200) as chat:
        chat.until(">>> ")
        for typed, shown in (
            ("/set max_tokens 4", "max_tokens: 4"),
            ("/set temperature hot", "hali: temperature is a number from 0 to 2"),
            ("/clean", "hali: no command /clean"),
            ("Say something nice", ">>> Say something nice"),
            ("/stats", "completion_tokens: 4"),
            ("/retry", ">>> /retry"),
            (f"/save {saved}", "Saved as"),
        ):
            prompts = chat.text.count(">>> ")
            chat.type(f"{typed}\n")
            chat.until(lambda text, shown=shown, prompts=prompts: shown in text and text.count(">>> ") > prompts)  # type: ignore[misc]
        chat.type("/bye\n")
        assert chat.end() == 0
    assert [turn["role"] for turn in json.loads(saved.read_text())["messages"]] == ["user", "assistant"]
    assert seeder.paths.prompts.stat().st_mode & 0o777 == 0o600
    with hali(seeder, "run", "smollm2") as chat:
        chat.until(">>> ")
        chat.type("\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A")  # five lines up
        chat.until("Say something nice")
        chat.type(CTRL_C)
        chat.until(
            lambda text: "Ctrl-C once more" in text and text.endswith(">>> ")
        )  # before, no prompt would get the end
        chat.type(CTRL_D)
        assert chat.end() == 0


@pytest.mark.model
def test_what_is_typed_during_a_reply_is_not_shown_in_it_and_is_the_next_prompt(seeder: TestNode) -> None:
    with hali(seeder, "run", "smollm2", "--temperature", "0", "--max-tokens", "80") as chat:
        chat.until(">>> ")
        chat.type("Why is the sky blue?\n")
        chat.until(lambda text: len(text.partition("blue?")[2].split()) > 6)
        chat.type("/bye\n")
        assert chat.end() == 0
        reply, _, prompt = chat.text.partition("blue?")[2].partition(">>> ")
        assert "/bye" not in reply
        assert "/bye" in prompt


def test_a_pull_shows_a_bar_that_fits_and_ctrl_c_leaves_it_resumable(seeder: TestNode, tmp_path: Path) -> None:
    seeder.ok("config", "set", "max_upload_mbps", "80")  # so that it can be seen and stopped
    with node(tmp_path / "b") as b:
        b.start()
        b.hears(SMOLLM2)
        with hali(b, "pull", "smollm2", columns=60) as pull:
            pull.until(lambda text: re.search(r"\b[1-9]\d? %", text))
            pull.type(CTRL_C)
            assert pull.end() == 130
            said = "hali: smollm2: stopped — finished pieces are kept; the same command goes on"
            assert said in pull.text.replace("\n", "")
            assert "^C" not in pull.text
            drawn = [line for line in re.split(r"\r|\n|\x1b\[2K|\x1b\[1A", pull.raw) if "%" in line]
            assert drawn
            assert all(len(ESCAPES.sub("", line)) < 60 for line in drawn)
        assert b.status()["jobs"] == []
        seeder.ok("config", "set", "max_upload_mbps", "0")
        assert b.ok("pull", "smollm2")["state"] == "seeding"


@pytest.mark.parametrize(
    ("args", "env", "coloured"),
    [((), {}, True), (("--no-color",), {}, False), ((), {"NO_COLOR": "1"}, False), ((), {"TERM": "dumb"}, False)],
)
def test_colours_and_animation_can_be_switched_off(
    args: tuple[str, ...], env: dict[str, str], coloured: bool, tmp_path: Path, smollm2: Path
) -> None:
    with node(tmp_path / "home") as one:
        one.start()
        with hali(one, "add", str(smollm2), *args, **env) as add:
            assert add.end() == 0
        assert "smollm2:135m:instruct:q4_1  98.4 MB in" in add.text
        assert bool(re.search(r"\x1b\[[\d;]*m", add.raw)) is coloured
        if env.get("TERM") == "dumb":
            assert "\x1b" not in add.raw
            assert "hashing SmolLM2-135M-Instruct.Q4_1.gguf 0 B of 98.4 MB (0 %)\n" in add.text


def test_rm_asks_first_and_no_means_no(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF" + bytes(4096))
    with node(tmp_path / "home") as one:
        added = one.ok("add", str(tmp_path / "tiny.gguf"))
        with hali(one, "rm", added["sha256"]) as rm:
            rm.until("[y/N] ")
            rm.type("\n")
            assert rm.end() == 130
            assert "was not deleted" in rm.text
        with hali(one, "rm", added["sha256"]) as rm:
            rm.until("[y/N] ")
            rm.type("y\n")
            assert rm.end() == 0
        assert one.ok("list") == []


def test_stats_is_live_on_a_terminal_until_ctrl_c(seeder: TestNode) -> None:
    with hali(seeder, "stats") as stats:
        stats.until(lambda text: text.count("Session:") >= 2)
        shown = stats.raw.count("Session:")
        stats.resize(columns=30)
        stats.until(lambda _: "Session:" in stats.raw.rpartition(HOME)[2] and stats.raw.count("Session:") > shown)
        stats.type(CTRL_C)
        assert stats.end() == 130
        assert stats.raw.count(HOME) == stats.raw.count("Session:")  # each drawing over the last one
        assert stats.raw.rstrip().endswith(LEAVE)
    with hali(seeder, "stats") as stats:
        stats.until("Session:")
        stats.process.terminate()
        assert stats.end() == 128 + signal.SIGTERM
        assert stats.raw.rstrip().endswith(LEAVE)
    with hali(seeder, "stats", "--once") as stats:
        assert stats.end() == 0
        assert stats.text.count("Session:") == 1


def test_a_daemon_ends_with_its_terminal_unless_detached(tmp_path: Path) -> None:
    start = f"{sys.executable} -m hali.cli daemon start"
    with node(tmp_path / "user") as one, node(tmp_path / "detached") as two:
        with Terminal(one, "sh", PS1="") as shell:
            shell.type(f"{start}\n")
            shell.until("It ends with this terminal")
            shell.type(f"HALI_HOME={two.paths.home} {start} --detach\n")
            until(lambda: two.paths.address.exists(), "the second daemon runs")
            assert is_locked(one.paths)
        until(lambda: not is_locked(one.paths), "the daemon ended with its terminal")
        assert two.pid()
        assert one.events("daemon.stopped")
