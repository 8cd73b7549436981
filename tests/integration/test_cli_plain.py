"""The command line without a terminal: pipes, programs that read JSON, and daemons that start by themselves."""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from hali.daemon.address import exclusive, is_locked
from tests.fakes import tiny_models
from tests.fakes.pictures import png
from tests.nodes import SMOLLM2, WAIT_S, TestNode, node, until

PROGRESS = {"event", "state", "name", "done", "total", "rate", "peers", "sources", "waits_s"}


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[TestNode]:
    """A node that has the model."""
    with node(tmp_path_factory.mktemp("owner")) as made:
        made.ok("add", str(smollm2))
        yield made


def next_line(stream: IO[str]) -> str:
    """The next line of a command; empty when none comes in time. For lines that come one by one."""
    return stream.readline() if select.select([stream], [], [], WAIT_S)[0] else ""


@pytest.mark.model
def test_a_piped_prompt_gets_the_reply_and_nothing_else_on_standard_output(owner: TestNode) -> None:
    options = ("--temperature", "0", "--max-tokens", "12")
    piped = owner.hali("run", "smollm2", *options, stdin="Why is the sky blue?\n")
    argument = owner.hali("run", "smollm2", "Why is the sky blue?", *options)
    dash = owner.hali("run", "smollm2", "-", *options, stdin="Why is the sky blue?")
    assert {done.returncode for done in (piped, argument, dash)} == {0}
    assert len(piped.stdout.split()) > 3
    assert piped.stdout == argument.stdout == dash.stdout
    assert (piped.stderr, "\x1b" in piped.stdout) == ("", False)
    told = owner.ok("run", "smollm2", "Why is the sky blue?", *options)
    assert told["content"] == piped.stdout.removesuffix("\n")
    assert (told["completion_tokens"], told["finish_reason"]) == (12, "length")
    assert told["tokens_per_s"] > 0 < told["ttft_s"] <= told["total_s"]


@pytest.mark.model
def test_a_reply_fits_its_schema_and_an_image_is_refused_by_a_model_that_cannot_see(
    owner: TestNode, tmp_path: Path
) -> None:
    schema, image = tmp_path / "schema.json", tmp_path / "dot.png"
    blue = {"type": "object", "properties": {"blue": {"type": "boolean"}}, "required": ["blue"]}
    schema.write_text(json.dumps({**blue, "additionalProperties": False}))  # others could be longer than the reply
    image.write_bytes(png(2, 2))
    told = owner.ok("run", "smollm2", "Is the sky blue?", "--format", str(schema), "--temperature", "0")
    assert isinstance(json.loads(told["content"])["blue"], bool)
    assert told["reasoning"] is None
    said = owner.fails("run", "smollm2", "What is it?", "--image", str(image), code=2)
    assert "image" in said


def test_a_prompt_that_is_empty_and_a_model_that_is_not_here_are_told_apart(owner: TestNode) -> None:
    empty = owner.hali("run", "smollm2", stdin=" \n")
    assert (empty.returncode, empty.stderr) == (2, "hali: the prompt is empty\n")
    missing = owner.hali("run", "nosuch", "hi")
    assert missing.returncode == 3
    assert missing.stderr.startswith("hali: no model 'nosuch' in the store — ")
    assert "`hali pull nosuch`" in missing.stderr
    assert missing.stderr.count("\n") == 1


def test_a_prompt_without_an_end_is_refused_and_not_read_to_its_end(owner: TestNode) -> None:
    done = owner.shell(f"ulimit -v 2000000; yes | {shlex.quote(sys.executable)} -m hali.cli run smollm2")
    assert (done.returncode, done.stderr) == (2, "hali: the prompt is larger than 8.4 MB — give a shorter one\n")


def test_a_prompt_of_bytes_that_are_no_text_is_still_a_prompt(owner: TestNode) -> None:
    command = [sys.executable, "-m", "hali.cli", "run", "smollm2", "--max-tokens", "1"]
    for extra, given in (([b"caf\xe9"], b""), ([], b"caf\xe9")):
        done = subprocess.run([*command, *extra], env=owner.env, input=given, capture_output=True, timeout=WAIT_S)
        assert (done.returncode, done.stderr) == (0, b"")


def test_models_in_memory_are_listed_and_unloaded_and_nothing_is_said_plainly(owner: TestNode) -> None:
    owner.ok("run", "smollm2", "hi", "--max-tokens", "1")
    (engine,) = owner.ok("ps")
    assert (engine["model_id"], engine["state"], engine["active"]) == ("smollm2:135m:instruct:q4_1", "ready", 0)
    assert owner.hali("ps").stdout.startswith("MODEL ID")
    assert owner.hali("stop", "smollm2").stdout == "Stopped smollm2.\n"
    assert owner.hali("stop", "smollm2").stdout == "smollm2 is not loaded.\n"
    assert owner.hali("ps").stdout.startswith("No model is loaded.")
    assert owner.ok("ps") == []
    assert owner.hali("stop", "nosuch").returncode == 3


@pytest.mark.model
def test_a_model_is_loaded_for_as_long_as_was_said_and_all_are_unloaded_at_once(owner: TestNode) -> None:
    assert owner.ok("load", "smollm2", "--keep-alive", "2h")["n_ctx"] == 4096
    (engine,) = owner.ok("ps")
    assert 7000 < engine["expires_in_s"] <= 7200
    assert engine["kv_total"] >= engine["n_ctx"] and engine["kv_used"] == 0
    assert isinstance(engine["gpu_layers"], int) and engine["draft"] is False
    assert engine["reserved_bytes"] > engine["memory_bytes"] > 50e6
    assert "1h59m" in owner.hali("ps").stdout
    owner.ok("load", "smollm2", "--keep-alive", "-1")
    assert owner.ok("ps")[0]["expires_in_s"] is None
    assert owner.ok("stop", "--all") == {"stopped": ["smollm2:135m:instruct:q4_1"]}
    assert owner.ok("ps") == [] and owner.ok("stop", "--all") == {"stopped": []}
    assert owner.hali("load", "smollm2", "--keep-alive", "soon").returncode == 2
    assert owner.hali("stop").returncode == 2


@pytest.mark.model
def test_a_bench_tells_rates_for_each_number_of_streams(owner: TestNode) -> None:
    told = owner.ok("bench", "smollm2", "--prompt", "16", "--generate", "4", "--streams", "1,2", "--repeat", "1")
    tests = [(row["test"], row["streams"]) for row in told["results"]]
    assert tests == [("pp16", 1), ("tg4", 1), ("pp16", 2), ("tg4", 2)]
    assert all(row["tokens_per_s"] > 0 for row in told["results"])
    lines = owner.hali("bench", "smollm2", "--prompt", "16", "--generate", "0", "--repeat", "1").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["TEST", "pp16"]
    assert "context" in owner.fails("bench", "smollm2", "--prompt", "5000", code=2)
    assert "--streams" in owner.fails("bench", "smollm2", "--streams", "0", code=2)


def test_a_bench_of_a_model_that_cannot_write_says_so(owner: TestNode, tmp_path: Path) -> None:
    added = owner.ok("add", str(tiny_models.bert().write(tmp_path / "tinybert.gguf")))
    told = owner.fails("bench", added["model_id"], code=2)
    assert "this model makes vectors of texts; it cannot write" in told


def test_a_pull_tells_plain_lines_json_lines_or_nothing(owner: TestNode, tmp_path: Path) -> None:
    with node(tmp_path / "b") as b:
        b.start()
        b.hears(SMOLLM2)
        plain = b.hali("pull", "smollm2")
        assert plain.returncode == 0, plain.stderr
        assert "downloading SmolLM2-135M-Instruct.Q4_1.gguf" in plain.stderr
        assert plain.stdout.startswith("smollm2:135m:instruct:q4_1  98.4 MB in ")
        assert "\x1b" not in plain.stdout + plain.stderr
        quiet = b.hali("pull", "smollm2", "--quiet")
        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
        assert b.hali("pull", "smollm2").stdout.startswith("Already here: smollm2:135m:instruct:q4_1")
    with node(tmp_path / "c") as c:
        assert c.hali("stats", "--json").stderr == ""  # though it started the daemon
        c.hears(SMOLLM2)
        done = c.hali("pull", "smollm2", "--json")
        *progress, last = map(json.loads, done.stdout.splitlines())
        assert all(set(event) == PROGRESS for event in progress)
        assert (last["event"], last["ok"], last["from_store"]) == ("done", True, False)
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "code"),
    [(("pull", "nosuch"), 3), (("run", "nosuch", "hi"), 3), (("stats",), 0), (("add", "nosuch.gguf"), 3)],
)
def test_commands_that_need_the_daemon_start_it(args: tuple[str, ...], code: int, tmp_path: Path) -> None:
    with node(tmp_path / "home") as one:
        done = one.hali(*args)
        assert done.returncode == code
        assert one.pid()


def test_commands_that_start_it_at_the_same_moment_share_one(tmp_path: Path) -> None:
    with node(tmp_path / "home") as one:
        commands = [one.start_hali("daemon", "start", "--json") for _ in range(4)]
        told = [command.communicate(timeout=WAIT_S) for command in commands]
        assert [command.returncode for command in commands] == [0] * 4, told
        assert {json.loads(out)["pid"] for out, _ in told} == {one.pid()}
        # A daemon that comes too late may still be on its way, and would take over from one that is stopped first.
        until(lambda: [process.pid for process in one.processes()] == [one.pid()], "the others have given up")


def test_a_daemon_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    with node(tmp_path / "home") as one:
        one.paths.create()
        with exclusive(one.paths):  # as a daemon that no longer answers
            command = one.start_hali("daemon", "start")
            report = one.paths.logs / "start.err"
            until(lambda: report.exists() and "already_running" in report.read_text(), "the first attempt fails")
        out, err = command.communicate(timeout=WAIT_S)
        assert (command.returncode, err) == (0, "")
        assert out.startswith("Daemon started")


def test_commands_that_only_ask_do_not_start_it(tmp_path: Path) -> None:
    with node(tmp_path / "home") as one:
        assert [
            one.hali(*args).returncode
            for args in (("list",), ("ps",), ("stop", "x"), ("daemon", "status"), ("events",))
        ] == [
            0,
            4,
            0,
            4,
            4,
        ]
        assert not is_locked(one.paths)


def test_a_mistyped_flag_does_not_cost_the_daemon_that_runs(tmp_path: Path) -> None:
    with node(tmp_path / "home") as one:
        one.start()
        before = one.pid()
        for flags in (("--lan-enabeld", "false"), ("--torrent-port", "many")):
            done = one.hali("daemon", "restart", *flags)
            assert done.returncode == 2, done.stderr
            assert done.stderr.count("\n") == 1
        again = one.hali("daemon", "start", "--lan-enabled", "false")
        assert "already running" in again.stdout
        assert "--lan-enabled false had no effect" in again.stderr
        for wrong in ("--nonsense", "--lan-port=many"):
            one.fails("daemon", "start", wrong, code=2)
        assert one.pid() == before
        one.ok("daemon", "restart", "--lan-enabled", "false")
        assert one.pid() != before


def test_a_torrent_file_is_found_from_where_the_command_runs(owner: TestNode) -> None:
    torrent = next(owner.paths.torrents.iterdir())
    command = [sys.executable, "-m", "hali.cli", "pull", torrent.name]
    done = subprocess.run(command, env=owner.env, cwd=torrent.parent, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Already here: ")


def test_a_name_that_is_not_utf_8_is_told_by_its_name(tmp_path: Path) -> None:
    with node(tmp_path / "home") as made:
        made.start()
        for command in ("add", "info", "pull"):
            told = made.fails(command, "bad\udcff.gguf", code=2)
            assert told.endswith("bad\\xff.gguf' is not UTF-8 — give it a name in UTF-8")
        made.env |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        assert "\\xc3\\xa9.gguf' cannot be read in this locale" in made.fails("add", "é.gguf", code=2)


def test_a_reader_that_has_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    one = TestNode(tmp_path / "home")
    one.paths.create()
    (one.paths.logs / "hali.log").write_text('{"event": "e"}\n' * 50_000)  # far more than a pipe holds
    with one.start_hali("logs", "-n", "50000") as logs:
        assert logs.stdout is not None and logs.stderr is not None
        assert next_line(logs.stdout) == '{"event": "e"}\n'
        logs.stdout.close()
        assert logs.stderr.read() == ""
        assert logs.wait(WAIT_S) == 0


def test_following_the_log_goes_on_in_the_next_file(tmp_path: Path) -> None:
    one = TestNode(tmp_path / "home")
    one.paths.create()
    path = one.paths.logs / "hali.log"
    path.write_text("old\nlast\n")
    with one.start_hali("logs", "-f", "-n", "1") as logs:
        assert logs.stdout is not None
        assert next_line(logs.stdout) == "last\n"
        with path.open("a") as log:
            log.write("ha")
            log.flush()
            log.write("lf\n")
        assert next_line(logs.stdout) == "half\n"
        os.rename(path, path.with_suffix(".log.1"))
        path.write_text("new\n")
        new = next_line(logs.stdout)
        logs.terminate()
        assert new == "new\n"


def test_verify_all_goes_on_after_a_damaged_model(tmp_path: Path) -> None:
    with node(tmp_path / "home") as one:
        paths = []
        for name, fill in (("Aa-1B-Q8_0.gguf", b"a"), ("Bb-1B-Q8_0.gguf", b"b")):
            (tmp_path / name).write_bytes(b"GGUF" + fill * 100_000)
            paths.append(Path(one.ok("add", str(tmp_path / name), "--copy")["path"]))
        assert one.hali("verify", "--all").returncode == 0
        paths[0].chmod(0o600)
        with paths[0].open("r+b") as file:
            file.seek(5000)
            file.write(b"!")
        done = one.hali("verify", "--all", "--json")
        first, second, last = map(json.loads, done.stdout.splitlines())
        assert done.returncode == 5
        assert (first["ok"], first["error"]["details"]["pieces"]) == (False, [0])
        assert second["verified"]
        assert "1 of 2 models are damaged: aa:1b:base:q8_0" in last["error"]["message"]
        until(lambda: one.state_of(second["model_id"]) == "seeding", "the good one is seeded")
