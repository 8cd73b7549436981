"""What is to be done to the machine, as values; and the one place that does it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec

from hali.config.files import write_atomically
from hali.model.errors import Failed, Refused

RUN_S = 120.0  # above the stop limit of a service, for which `systemctl stop` waits


class Write(msgspec.Struct, frozen=True, tag=True):
    """A file with this text, readable by all: there is no secret in it."""

    path: str
    text: str
    encoding: str = "utf-8"


class Remove(msgspec.Struct, frozen=True, tag=True):
    """No such file any more; it may be missing already."""

    path: str


class Run(msgspec.Struct, frozen=True, tag=True):
    """A command without a shell. `must`: the plan ends when it fails."""

    argv: tuple[str, ...]
    must: bool = True


Step = Write | Remove | Run


def describe(step: Step) -> str:
    """One step for people, quoted for a shell."""
    match step:
        case Write(path):
            return f"write {shlex.quote(path)}"
        case Remove(path):
            return f"remove {shlex.quote(path)}"
        case Run(argv):
            return shlex.join(argv)


def carry_out(steps: Iterable[Step]) -> None:
    """Do one after the other; Refused or Failed, in the words of the command, at the first that must succeed and does not."""
    for step in steps:
        try:
            _do(step)
        except PermissionError as exc:
            path = exc.filename or step
            raise Refused(f"no permission to {describe(step)}", hint=f"as root? ({path})") from None
        except OSError as exc:
            raise Failed(f"cannot {describe(step)}: {exc.strerror}") from None


def _do(step: Step) -> None:
    match step:
        case Write(path, text, encoding):
            write_atomically(Path(path), text.encode(encoding))
        case Remove(path):
            Path(path).unlink(missing_ok=True)
        case Run(argv, must):
            done = ask(argv)
            if must and done.returncode != 0:
                said = " ".join((done.stderr or done.stdout).split())
                raise Failed(f"`{shlex.join(argv)}` failed: {said or f'exit code {done.returncode}'}")


def ask(argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; Failed when it is not there or hangs."""
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=RUN_S, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise Failed(f"there is no program {argv[0]!r} here") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"`{shlex.join(argv)}` did not end in {RUN_S:.0f} s") from None
