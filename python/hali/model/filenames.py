"""Which names from outside may become names of files: the one rule for torrents, the hub, the registry, the LAN and the store."""

from __future__ import annotations

from hali.model.errors import ProtocolError

MAX_NAME = 255  # bytes of a path component on every file system hali runs on
MAX_PATH = 1024  # characters of a path inside a repository; the longest on the hub have about 200
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {f"{d}{n}" for d in ("com", "lpt") for n in range(10)}


def safe_name(name: str) -> str:
    """`name` if it can be one component of a path on every system; ProtocolError says why not."""
    reason = unsafe(name)
    if reason:
        raise ProtocolError(f"unsafe file name {name[:80]!r}: {reason}", code="unsafe_name")
    return name


def is_safe_path(path: str) -> bool:
    """True for relative paths of names that are each `safe_name`."""
    return len(path) <= MAX_PATH and not any(unsafe(part) for part in path.split("/"))


def unsafe(name: str) -> str | None:
    """Why `name` cannot be one component of a path on every system; None if it can."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "not valid Unicode"
    if name in ("", ".", ".."):
        return "it names no file"
    if len(encoded) > MAX_NAME:
        return f"longer than {MAX_NAME} bytes"
    if any(c in "/\\:" for c in name):  # ":" opens an alternate data stream on NTFS
        return "it holds a path separator"
    # Control characters and invisible ones, such as the override that makes "fgp.exe" read "exe.pgf".
    if not name.isprintable():
        return "it holds characters that cannot be shown"
    if name[-1] in " .":  # Windows drops them, and two names become one
        return "it ends in a space or a dot"
    if name.split(".")[0].strip().lower() in _DEVICES:
        return "it is a device on Windows"
    return None
