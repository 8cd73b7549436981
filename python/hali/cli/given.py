"""What somebody gives a chat, read no further than it can be of use."""

from __future__ import annotations

import stat

from hali.config.paths import expanded
from hali.model.errors import NotFound, Refused, UsageError
from hali.model.units import MIB, format_bytes

MAX_BODY = 8 * MIB  # of a request, as the API takes it


def contents(file: str, limit: int) -> bytes:
    """All bytes of a file, or of a pipe (`<(…)` of a shell); UsageError for what is neither or larger than `limit`."""
    if not file:  # which a path takes for the current folder
        raise UsageError("name a file")
    path = expanded(file)
    try:
        kind = path.stat().st_mode  # before it is opened: some devices do something then
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise UsageError(f"{file} is {'a folder' if stat.S_ISDIR(kind) else 'a device'}", hint="name a file")
        with path.open("rb") as opened:
            data = opened.read(limit + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as exc:
        raise Refused(f"cannot read {file}: {exc.strerror}") from None
    if len(data) > limit:
        raise UsageError(f"{file} is larger than {format_bytes(limit)}", hint="make it smaller first")
    return data
