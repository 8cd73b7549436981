"""Texts as systemd's unit files take them (systemd.syntax(7), systemd.service(5) "Command lines", systemd.unit(5) "Specifiers")."""

from __future__ import annotations

from hali.model.errors import UsageError

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(text: str) -> str:
    """One word of a list, or of a command line that begins with `:`, whatever is in it: quotes escaped, `%` doubled."""
    escaped = "".join(_ESCAPES.get(c) or (f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text)
    return '"' + escaped.replace("%", "%%") + '"'


def plain(text: str) -> str:
    """A path in a place that takes no quotes: `%` doubled; UsageError where that cannot be said."""
    if not text.isprintable() or text != text.strip() or text.endswith("\\"):
        raise UsageError(f"systemd cannot be told the path {text!r}", hint="choose one without control characters")
    return text.replace("%", "%%")
