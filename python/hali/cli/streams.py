"""Standard streams that are closed or cannot be written: no reason for a command not to do what it was asked."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # as in `main`: `hali --version` goes through here
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Whole(io.FileIO):
    """Writes all of what it is given, so that no buffer is needed: one would write again what Ctrl-C interrupted behind the write."""

    def _write_all(self, data: ReadableBuffer) -> None:
        rest = memoryview(data)
        while rest:
            written = super().write(rest)
            if written is None:  # somebody set it to never wait
                import errno  # `hali --version` does without

                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            rest = rest[written:]


class _Messages(_Whole):
    """Standard error: what cannot be written is lost, and that is all."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            self._write_all(data)
        except OSError:
            pass
        return len(memoryview(data))


class _Results(_Whole):
    """Standard output: what cannot be written is lost and told once, while the command goes on to its end."""

    lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            self._write_all(data)
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


def _over(stream: object, kind: type[_Whole]) -> io.TextIOWrapper:
    """The same stream with another way of writing. A terminal that cannot show a dash gets a question mark, not a traceback."""
    assert isinstance(stream, io.TextIOWrapper)
    return io.TextIOWrapper(
        kind(stream.fileno(), "w", closefd=False),  # the text has a buffer of its own
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
    raw = getattr(sys.stdout, "buffer", None)
    return 1 if code == 0 and isinstance(raw, _Results) and raw.lost else code
