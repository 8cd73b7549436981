"""`python -m tests.fakes.worker_nursery`: workers by fork, for tests that need thousands of them.

Reads a temperature and the path of a model from each line of standard input. A child loads the model and answers two
short chats, or makes two vectors or scores, with the worker's own parts; one line says how that ended: `answered`,
`refused <error>`, or `died <signal>`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from hali.engine import backend
from hali.engine.chat import Prompter
from hali.engine.embedding import Embedder
from hali.engine.loop import Loop
from hali.engine.native_log import NativeLog
from hali.engine.options import EngineOptions
from hali.model.errors import HaliError
from hali.model.generation import Done, Embed, GenerateRequest, GenerationEvent, Message, Rerank, SamplingParams

OPTIONS = EngineOptions(n_ctx=128, n_seq_max=1, n_batch=64, threads=1, threads_batch=1)
TEXTS = ("hello w\u00f6rld \U0001f999\n", "the")
ANSWERED, REFUSED, UNCAUGHT = 0, 3, 4
TIME_LIMIT_S = 60.0  # then the child is killed: nothing here takes a second


def answer(path: Path, temperature: float) -> None:
    """One worker's life, without the socket; HaliError where it would send one."""
    log = NativeLog()
    log.install()
    model = backend.Model(path, OPTIONS, log, lambda _: None)
    prompter = Prompter(model)
    if model.kind == "chat":
        chat(model, prompter, temperature)
    embedder = Embedder(model, OPTIONS)
    if model.kind == "rerank":
        list(embedder.rerank(Rerank(TEXTS[1], TEXTS)))
    else:
        list(embedder.embed(Embed(TEXTS)))
    embedder.close()
    model.close()


def chat(model: backend.Model, prompter: Prompter, temperature: float) -> None:
    """Two short replies."""
    failures: list[HaliError] = []
    events: list[GenerationEvent] = []
    loop = Loop(model, prompter, 1, lambda _, __, event: events.append(event), lambda _, error: failures.append(error))
    sampling = SamplingParams(temperature=temperature, seed=1, max_tokens=4)
    for text in TEXTS:
        loop.open(b"\1" * 16, GenerateRequest(messages=(Message("user", text),), sampling=sampling))
        while loop.busy:
            loop.admit()
            loop.step()
        if failures:
            raise failures[0]
        assert isinstance(events[-1], Done), events


def child(path: Path, temperature: float, words: int) -> int:
    """The exit code of one worker; what it has to say goes to the descriptor `words`."""
    try:
        answer(path, temperature)
    except HaliError as error:
        os.write(words, f"{type(error).__name__}: {error}".encode()[:300])
        return REFUSED
    except BaseException:
        os.write(words, traceback.format_exc().encode()[-1000:])
        return UNCAUGHT
    return ANSWERED


def ending(path: Path, temperature: float, run: Callable[[Path, float, int], int] = child) -> str:
    """Fork, run, and say how it ended."""
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(run(path, temperature, ours))
    os.close(ours)
    # No alarm of its own: the sandbox of templates has the only timer that a process has.
    limit = threading.Timer(TIME_LIMIT_S, os.kill, (pid, signal.SIGKILL))
    limit.start()
    with os.fdopen(theirs, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace").replace("\n", "\\n")
    limit.cancel()
    limit.join()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"died {signal.Signals(os.WTERMSIG(status)).name}"
    names = {ANSWERED: "answered", REFUSED: "refused", UNCAUGHT: "died uncaught"}
    return f"{names.get(os.WEXITSTATUS(status), f'died with {os.WEXITSTATUS(status)}')} {said}".strip()


def main() -> None:
    """Until the end of standard input."""
    os.environ["GGML_NO_BACKTRACE"] = "1"
    for line in sys.stdin:
        temperature, path = line.rstrip("\n").split(" ", 1)
        print(ending(Path(path), float(temperature)), flush=True)


if __name__ == "__main__":
    main()
