"""A program kept running where no service manager does it, or one that knows too little: the same waits, the same exit codes that end it.

`python -m hali.service.keeper --home HOME TARGET [ARGUMENTS]` keeps a target of the table.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import msgspec

from hali.model.errors import ExitCode, HaliError, UsageError
from hali.runtime.signals import woken_by
from hali.service.description import FINAL, RESTART_S
from hali.service.targets import find_target

STEADY_S = 600.0  # who ran this long starts the waits anew
AT_ONCE_S = 10.0  # a first start that fails sooner was asked for wrongly, and who asked is there to read it
FORWARDED = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


class Wait(msgspec.Struct, frozen=True):
    """Start it again after so many seconds."""

    seconds: float
    failures: int


class End(msgspec.Struct, frozen=True):
    """Leave it; our own exit code."""

    code: int


def next_step(code: int, ran_s: float, failures: int, *, patient: bool) -> Wait | End:
    """After an end with `code` (negative: a signal), `failures` ends before it in a row. `patient`: nobody waits for the first start."""
    if code == ExitCode.OK or code in FINAL:
        return End(code)
    if code > 0 and not patient and failures == 0 and ran_s < AT_ONCE_S:
        return End(code)
    before = 0 if ran_s >= STEADY_S else failures
    return Wait(RESTART_S[min(before, len(RESTART_S) - 1)], before + 1)


class Keeper:
    """One program and its successors. Signals are handed on; after the first the program is not started again."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, patient: bool) -> None:
        self._command, self._env, self._patient = list(command), dict(env), patient
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: int | None = None

    def run(self) -> int:
        """Until it ends for good; the exit code."""
        failures = 0
        with woken_by(FORWARDED, self._on_signal) as woken:
            while True:
                code, ran_s = self._once()
                step = self._after(code, ran_s, failures)
                if isinstance(step, End):
                    return step.code
                failures = step.failures
                _say(f"{_how(code)}; started again in {step.seconds:.0f} s")
                select.select([woken], [], [], step.seconds)  # SIGCHLD has no handler, so only what we hand on wakes us
                if self._asked is not None:
                    return ExitCode.OK

    def _once(self) -> tuple[int, float]:
        began = time.monotonic()
        # A group of its own: Ctrl-C in a terminal reaches us alone, and is handed on once.
        self._child = subprocess.Popen(self._command, env=self._env, process_group=0)
        if self._asked is not None:
            self._child.send_signal(self._asked)
        code = self._child.wait()
        self._child = None
        _bury()
        return code, time.monotonic() - began

    def _after(self, code: int, ran_s: float, failures: int) -> Wait | End:
        if self._asked is not None:
            return End(code if code >= 0 else 128 - code)
        return next_step(code, ran_s, failures, patient=self._patient)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._asked = number
        if self._child is not None:
            self._child.send_signal(number)


def _how(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _bury() -> None:
    """As the first process of a container we inherit what a killed daemon leaves behind."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _say(text: str) -> None:
    print(f"hali: {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    """`--home HOME TARGET [ARGUMENTS]`."""
    if len(argv) < 3 or argv[0] != "--home":
        raise UsageError("usage: python -m hali.service.keeper --home HOME TARGET [ARGUMENTS]")
    target = find_target(argv[2])
    command = [sys.executable, "-P", *target.arguments, *argv[3:]]
    return Keeper(command, os.environ | {"HALI_HOME": argv[1]}, patient=True).run()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HaliError as exc:
        _say(exc.message)
        sys.exit(int(exc.exit_code))
