"""The worker as an operating-system process: started scrubbed, its last words kept, its socket cut into frames."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from hali.engine import pages, protocol
from hali.engine.options import EngineOptions
from hali.model.errors import ProtocolError
from hali.runtime.log import get_logger

log = get_logger(__name__)

STDERR_KEPT = 8 * 1024  # bytes; a failed assertion with its context is under 2 KiB
# What the worker may know of our environment: how to find Python and its libraries, the clock's zone (templates print
# the date), which GPUs to use. No tokens, proxies or homes.
_ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "OMP_WAIT_POLICY",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
)


class Child(asyncio.SubprocessProtocol):
    """The process: keeps the end of its standard error, and says how it ended."""

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self._on_exit = on_exit
        self._stderr = bytearray()
        self._words = 0  # bytes that it wrote since it was ready, or while it loads
        self._ended_by_us = ""  # why, if so
        self._transport: asyncio.SubprocessTransport | None = None
        self.pid = 0
        self.returncode: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the process runs."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport, self.pid = transport, transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """asyncio: it wrote to standard error."""
        self._stderr += data
        self._words += len(data)
        del self._stderr[:-STDERR_KEPT]
        for line in data.decode("utf-8", "replace").splitlines():
            log.debug("engine.stderr", pid=self.pid, line=line)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it has ended and its standard error is read to the end."""
        assert self._transport is not None
        self.returncode = self._transport.get_returncode()
        self._transport.close()
        self._on_exit()

    def loaded(self) -> None:
        """What it wrote while it loaded is not why it will end."""
        self._words = 0

    def kill(self, why: str = "was ended") -> None:
        """SIGKILL; nothing if it has ended. `why` continues a sentence about the engine."""
        if self._transport is not None and self._transport.get_returncode() is None:
            self._ended_by_us = why
            try:
                self._transport.kill()
            except ProcessLookupError:
                return  # it ended, and asyncio is about to say so

    def signal_name(self) -> str | None:
        """`SIGKILL`, … if a signal ended it."""
        if self.returncode is None or self.returncode >= 0:
            return None
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"

    def how_it_ended(self) -> str:
        """`died of SIGABRT (its last words)`, for a sentence about the engine. Who is killed says nothing about it."""
        name = self.signal_name()
        if name == "SIGKILL":
            return f"{self._ended_by_us or 'was killed, perhaps for want of memory'} (SIGKILL)"
        how = f"died of {name}" if name else f"exited with {self.returncode}"
        words = self.stderr_tail(self._words).strip().splitlines()
        return f"{how} ({words[-1][:200]})" if words else how

    def stderr_tail(self, most: int = STDERR_KEPT) -> str:
        """The last 8 KiB it wrote, at most `most` bytes of them."""
        return self._stderr[max(0, len(self._stderr) - most) :].decode("utf-8", "replace")

    def rss_bytes(self) -> int | None:
        """Resident memory now; None where /proc does not tell."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return None
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Link(asyncio.Protocol):
    """Our end of the socket: frames in, frames out."""

    def __init__(self, on_frame: Callable[[protocol.Frame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame, self._on_lost = on_frame, on_lost
        self._reader = protocol.FrameReader(protocol.MAX_ANSWER)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: ready."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes came. A worker that does not speak frames is cut off, and ends itself then."""
        try:
            for frame in self._reader.feed(data):
                self._on_frame(frame)
        except ProtocolError as error:
            log.error("engine.protocol", exc=error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the worker has closed its end, or we ours."""
        self._transport = None
        self._on_lost()

    def send(self, frame: bytearray) -> None:
        """Send without waiting; nothing once the link is lost. What is sent is bounded by the requests in flight."""
        if self._transport is not None:
            self._transport.write(frame)

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()


async def spawn(
    path: Path, options: EngineOptions, on_frame: Callable[[protocol.Frame], None], on_gone: Callable[[], None]
) -> tuple[Child, Link]:
    """Start a worker for `path`; `on_gone` comes once, when the process has ended and the socket is read to the end."""
    left = 2

    def one_less() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            on_gone()

    ours, theirs = socket.socketpair()  # nothing on disk, and nobody else can connect
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        _, link = await loop.create_unix_connection(lambda: Link(on_frame, one_less), sock=ours)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    try:
        # On this thread, not a pool's: PR_SET_PDEATHSIG fires when the starting *thread* ends.
        _, child = await loop.subprocess_exec(
            lambda: Child(one_less),
            *_command(theirs.fileno(), path, options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        link.abort()
        raise
    finally:
        theirs.close()
    return child, link


def _command(fd: int, path: Path, options: EngineOptions) -> list[str]:
    # -P: the current directory is no place to import from.
    python = [sys.executable, "-P", "-m", "hali.engine.worker"]
    return [*python, str(fd), str(os.getpid()), os.path.abspath(path), msgspec.json.encode(options).decode()]


def _environment() -> dict[str, str]:
    """A scrubbed environment; GGML_NO_BACKTRACE, or a failed assertion forks a debugger; huge pages where there are any."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if "PYTHONPATH" in kept:  # the worker runs in /, so relative entries would point elsewhere
        parts = kept["PYTHONPATH"].split(os.pathsep)
        kept["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in parts if part)
    kept["GLIBC_TUNABLES"] = pages.tunables(os.environ)
    return {**kept, "GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}
