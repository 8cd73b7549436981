"""A chat in a file, so that it can go on another day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hali.cli.chat import ChatClient
from hali.cli.given import contents
from hali.config.files import write_secret
from hali.config.paths import expanded
from hali.model.errors import Refused, UsageError
from hali.model.units import MIB

MARK = "hali_chat"  # what such a file has, and no other: only these are written over
VERSION = 1
MAX_CHAT = 64 * MIB  # of what the API takes (8 MiB) several times as much; with spaces and what was said since


def save(chat: ChatClient, file: str) -> None:
    """Write the chat; UsageError when something else is there."""
    path = _path(file)
    if path.exists():
        _read(file)
    told = {
        MARK: VERSION,
        "model": chat.model,
        "system": chat.system,
        "options": chat.options,
        "messages": chat.history,
    }
    try:
        write_secret(path, json.dumps(told, ensure_ascii=False, indent=2).encode())
    except OSError as exc:
        raise Refused(f"cannot write {file}: {exc.strerror}") from None


def load(chat: ChatClient, file: str) -> None:
    """Go on where the saved chat ended, with the model of this one."""
    told = _read(file)
    system, messages = told.get("system"), told.get("messages")
    if not isinstance(system, str | None) or not isinstance(messages, list) or not all(map(_is_turn, messages)):
        raise UsageError(f"{file} is damaged: it holds no chat")
    chat.restore(messages)
    chat.system = system


def _is_turn(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") in ("user", "assistant") and "content" in message


def _path(file: str) -> Path:
    if not file:
        raise UsageError("name a file")
    return expanded(file)


def _read(file: str) -> dict[str, Any]:
    data = contents(file, MAX_CHAT)
    try:
        told = json.loads(data)
    except ValueError:
        told = None
    if not isinstance(told, dict) or told.get(MARK) != VERSION:
        raise UsageError(f"{file} is no chat that hali saved")
    return told
