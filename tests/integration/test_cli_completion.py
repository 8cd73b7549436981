"""Completion in the real shells: what Tab makes of a line, with model ids from the store and no daemon started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hali.daemon.address import is_locked
from tests.nodes import WAIT_S, TestNode, node
from tests.terminal import Terminal

ID = "smollm2:135m:instruct:q4_1"
PROMPT = "ready>"


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[TestNode]:
    """A node that has the model and no daemon; `hali` is on the PATH of its shells."""
    with node(tmp_path_factory.mktemp("owner")) as made:
        made.add(smollm2)
        made.stop()
        made.env["PATH"] = f"{Path(sys.executable).parent}:{made.env['PATH']}"
        yield made


def shell(name: str) -> str:
    """Where it is."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed, so its completion is not tried")
    return found


def tab(owner: TestNode, command: list[str], setup: str, typed: str) -> str:
    """The line that the shell shows for `typed` and Tab: what it echoes after it is asked to print its arguments."""
    with Terminal(owner, *command, columns=200, PS1=PROMPT, PROMPT=PROMPT) as terminal:
        terminal.type(f"{setup}\n")
        terminal.type(
            'hali() { if [ "$1" = __complete ]; then command hali "$@"; else echo "[$*]" END; fi; }; echo go""od\n'
        )
        terminal.until("good\n")
        terminal.type(f"hali {typed}\t")
        terminal.type("\n")
        text = terminal.until(lambda shown: "] END" in shown.partition("good\n")[2])
        terminal.type("exit\n")
        terminal.end()
    return text.partition("good\n")[2].rpartition("] END")[0].rpartition("[")[2].strip()


CASES = [
    ("info smo", f"info {ID}"),
    ("info smollm2:135m:ins", f"info {ID}"),
    ("verif", "verify"),
    ("export ol", "export ollama"),
    ("config get max_up", "config get max_upload_mbps"),
    ("export ollama --mmproj smo", f"export ollama --mmproj {ID}"),
    ("nosuch ab", "nosuch ab"),
]


@pytest.mark.parametrize(("typed", "completed"), CASES)
def test_bash_completes(owner: TestNode, typed: str, completed: str) -> None:
    command = [shell("bash"), "--noprofile", "--norc", "-i"]
    assert tab(owner, command, "source <(hali completion bash)", typed) == completed


def test_bash_completes_files_where_a_file_is_wanted(owner: TestNode, tmp_path: Path) -> None:
    (tmp_path / "only.gguf").touch()
    command = [shell("bash"), "--noprofile", "--norc", "-i"]
    assert tab(owner, command, "source <(hali completion bash)", f"add {tmp_path}/on") == f"add {tmp_path}/only.gguf"


@pytest.mark.parametrize(("typed", "completed"), CASES[:-1])
def test_zsh_completes(owner: TestNode, typed: str, completed: str) -> None:
    setup = "autoload -Uz compinit; compinit -u -D; source <(hali completion zsh)"
    assert tab(owner, [shell("zsh"), "-f", "-i"], setup, typed) == completed


@pytest.mark.parametrize(("typed", "completed"), CASES[:-1])
def test_fish_completes(owner: TestNode, typed: str, completed: str) -> None:
    script = f'hali completion fish | source; complete -C"hali {typed}"'
    done = subprocess.run(
        [shell("fish"), "--no-config", "-c", script], env=owner.env, capture_output=True, text=True, timeout=WAIT_S
    )
    (line,) = done.stdout.splitlines()
    assert line.partition("\t")[0] == completed.rpartition(" ")[2]


def test_no_daemon_is_started_and_none_of_the_heavy_parts_loaded(owner: TestNode) -> None:
    probe = (
        "import sys; from hali.cli.candidates import answer; sys.stdout.write(answer(['bash', 'info', 'smo']));"
        "print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", probe], env=owner.env, capture_output=True, text=True, check=True)
    first, *modules = done.stdout.splitlines()
    assert first == ID
    assert not {"libtorrent", "anyio", "asyncio", "rich", "hali._native.hashcore"} & set(modules)
    assert not is_locked(owner.paths)


def test_it_is_installed_where_the_shells_look_and_says_what_else_they_need(owner: TestNode, tmp_path: Path) -> None:
    owner.env |= {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    places = {
        "bash": "data/bash-completion/completions/hali",
        "zsh": "data/zsh/site-functions/_hali",
        "fish": "config/fish/completions/hali.fish",
    }
    for name, place in places.items():
        told = owner.ok("completion", name, "--install")
        assert (told["shell"], told["path"]) == (name, str(tmp_path / place))
        assert (tmp_path / place).read_text() == owner.ok("completion", name)["script"]
    assert owner.fails("completion", "tcsh", code=2).startswith("hali: no completion for 'tcsh'")


def test_zsh_finds_the_installed_function_by_the_line_that_is_told(owner: TestNode, tmp_path: Path) -> None:
    zsh = shell("zsh")
    owner.env |= {"XDG_DATA_HOME": str(tmp_path / "my data")}
    line = owner.ok("completion", "zsh", "--install")["next"].split("`")[1]
    setup = f"{line}; autoload -Uz compinit; compinit -u -D"
    assert tab(owner, [zsh, "-f", "-i"], setup, "info smo") == f"info {ID}"
