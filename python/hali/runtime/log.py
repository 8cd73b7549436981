"""Structured logs: an event name and fields, as JSON lines in a file or as readable lines on a terminal.

Built on the standard library's `logging`, so that messages of libraries land in the same place.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import sys
import time
from pathlib import Path
from typing import Any

from hali.model.errors import ConfigError, system_error
from hali.model.printing import printable, printable_lines

_FIELDS = "hali_fields"
MAX_LOG_BYTES = 5_000_000  # with two old files: at most 15 MB of logs, a few days of an ordinary node
OLD_LOGS = 2
# Before `configure`, or in a command that never calls it, `logging` would print bare event names on standard error.
logging.getLogger().addHandler(logging.NullHandler())


class Logger:
    """`log.info("peer.connected", peer=…)`: the event is a constant, what varies is a field."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """For someone who debugs hali."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """A transition worth keeping."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something is degraded; hali goes on."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, *, exc: BaseException | None = None, **fields: Any) -> None:
        """Something failed; with `exc` its traceback is kept."""
        self._emit(logging.ERROR, event, fields, exc)

    def _emit(self, level: int, event: str, fields: dict[str, Any], exc: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={_FIELDS: fields}, exc_info=exc)


def get_logger(name: str) -> Logger:
    """The logger of module `name` (pass `__name__`)."""
    return Logger(name)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, event, fields, and the traceback when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        line: dict[str, Any] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """`12:00:01 warning transfer.session peer.banned peer=…` for people."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        fields = " ".join(f"{k}={v}" for k, v in getattr(record, _FIELDS, {}).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        name = record.name.removeprefix("hali.")
        line = f"{clock} {record.levelname.lower():<7} {name} {record.getMessage()} {fields}".rstrip()
        # A field, and what an exception says, may hold what a stranger sent; control characters must not reach a terminal.
        if not record.exc_info:
            return printable(line)
        return f"{printable(line)}\n{printable_lines(self.formatException(record.exc_info))}"


def configure(*, debug: bool, directory: Path | None = None, stderr: bool = True, file: str = "hali.log") -> None:
    """Send all logs to `directory/file` (JSON lines, rotated; one process may write it) and, if asked, to standard error."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # on a full disk: of lines that are lost, see `_Kept`
            handler.close()
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    # Libraries that log every request at INFO would drown ours.
    for chatty in ("httpx", "httpcore", "uvicorn.access", "huggingface_hub", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.addHandler(_kept_in(directory / file))
    if stderr:
        people = logging.StreamHandler(sys.stderr)
        people.setFormatter(LineFormatter())
        root.addHandler(people)


class _Kept(logging.handlers.RotatingFileHandler):
    """A line that cannot be written is lost, which is told once: `logging` would print a traceback for each of them."""

    lost = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Of the exception that is being handled."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.lost:
            self.lost = True
            with contextlib.suppress(OSError):  # that is a file of the same disk
                print(f"hali: {self.baseFilename}: {error.strerror}", file=sys.stderr, flush=True)


def _kept_in(path: Path) -> logging.Handler:
    try:
        keep = _Kept(
            path,
            maxBytes=MAX_LOG_BYTES,
            backupCount=OLD_LOGS,
            encoding="utf-8",
            errors="backslashreplace",  # of file names in other encodings: an escape of JSON too
        )
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder, and the log has to go there", hint="move it away") from None
    except OSError as exc:
        raise system_error(exc) from None
    keep.setFormatter(JsonFormatter())
    return keep
