"""Texts as XML takes them: property lists and tasks."""

from __future__ import annotations

import re

from hali.model.errors import UsageError

# XML 1.0, section 2.2; a carriage return would come back as a line feed (section 2.11).
_UNSAYABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def sayable(text: str) -> str:
    """The text itself; UsageError where XML cannot hold it."""
    if _UNSAYABLE.search(text):
        raise UsageError(f"the service manager cannot be told {text!r}", hint="choose one without control characters")
    return text
