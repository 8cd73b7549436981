"""Standard streams that are closed or cannot be written: no reason for a command not to do what it was asked."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # as in `main`: `hali --version` goes through here
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Messages(io.FileIO):
    """Standard error: what cannot be written is lost, and that is all."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data))


class _Results(io.FileIO):
    """Standard output: what cannot be written is lost and told once, while the command goes on to its end."""

    lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # its reader has what it wanted, see `main`
            raise
        except OSError as exc:
            if not self.lost:
                self.lost = True
                print(f"hali: cannot write to standard output: {exc.strerror}", file=sys.stderr, flush=True)
            return len(memoryview(data))


def mend() -> None:
    """Closed ones become /dev/null, so that no other file gets their numbers; the others get over errors."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(fd, True)
        os.close(fd)
        sys.stdin, sys.stdout, sys.stderr = (
            stream or open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115  it stays open
            for stream, mode in ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w"))
        )
    if sys.stdout is sys.__stdout__:  # not what a test has put there
        sys.stdout = _over(sys.stdout, _Results)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _over(sys.stderr, _Messages)


def _over(stream: object, kind: type[io.FileIO]) -> io.TextIOWrapper:
    """The same stream with another way of writing. A terminal that cannot show a dash gets a question mark, not a traceback."""
    assert isinstance(stream, io.TextIOWrapper)
    raw = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def ended(code: int) -> int:
    """The exit code of a command that ended with `code`: 1 where all went well but its results could not be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return 1 if code == 0 and isinstance(raw, _Results) and raw.lost else code
