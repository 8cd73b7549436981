"""A configuration that cannot be read: which lines are at fault, and the same without them. Text in, text out."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hali.config.load import Loaded, check, find_key, flatten, parse_text, resolve, variable_of
from hali.config.schema import KEYS
from hali.model.errors import UsageError

MARK = "# not valid: "  # in front of a line that was taken out
MAX_LINES = 2000  # far above all keys with comments; the search for bad lines takes the square of it
_HEADER = re.compile(r"\s*\[+\s*([^\]]+?)\s*\]")
_ASSIGNMENT = re.compile(r"""\s*([\w."' -]+?)\s*=""")
_WHERE = re.compile(r" \(at [^)]*\)$")  # tomllib's; it may be far behind the line that is wrong


class Fault(msgspec.Struct, frozen=True):
    """One thing that cannot be read: a line of the file (from 1), or a variable. `reason` holds no values of secret keys."""

    reason: str
    line: int | None = None
    variable: str | None = None


def readable(path: Path, env: Mapping[str, str]) -> tuple[Loaded, list[Fault]]:
    """The settings without what cannot be read, and that."""
    try:
        text, faults = mended(path.read_bytes())
    except FileNotFoundError:
        text, faults = "", []
    except OSError as exc:
        text, faults = "", [Fault(f"cannot be read: {exc.strerror}")]
    wrong = wrong_variables(env)
    usable = {name: value for name, value in env.items() if name not in {fault.variable for fault in wrong}}
    return resolve(tomllib.loads(text), path, usable), [*faults, *wrong]


def wrong_variables(env: Mapping[str, str]) -> list[Fault]:
    """Environment variables whose values their keys do not take."""
    found = []
    for key in KEYS.values():
        if (variable := variable_of(key, env)) is None:
            continue
        try:
            parse_text(key, env[variable])
        except UsageError as exc:
            found.append(Fault(f"{variable}: {exc.message}", variable=variable))
    return found


def mended(data: bytes) -> tuple[str, list[Fault]]:
    """The file with each line that cannot be read made a comment, and why; nothing else changes."""
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = _split(data.decode(errors="replace"))
    faults: list[Fault] = []
    for number, raw in enumerate(data.split(b"\n")[: len(lines)], 1):
        if not _is_utf8(raw):
            faults.append(_take_out(lines, number, "it is not UTF-8"))
    while (wrong := _first_wrong(lines)) is not None:
        faults.append(_take_out(lines, *wrong))
    return "".join(lines), sorted(faults, key=lambda fault: fault.line or 0)


def _split(text: str) -> list[str]:
    """Lines with their ends as TOML has them; `str.splitlines` knows ends that TOML takes for text."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _take_out(lines: list[str], number: int, reason: str) -> Fault:
    """Make line `number` a comment; a header takes its table along, which would else become part of the one before."""
    first, last = number - 1, number
    if lines[first].lstrip().startswith("["):
        while last < len(lines) and not lines[last].lstrip().startswith("["):
            last += 1
    changed = [_comment(line) for line in lines[first:last]]
    if changed == lines[first:last]:  # written in a way that cannot be told apart: then nothing of the file is read
        first, last, changed = 0, len(lines), [_comment(line) for line in lines]
    lines[first:last] = changed
    return Fault(reason, line=number)


def _comment(line: str) -> str:
    """The line as a comment, without the control characters that not even comments may have."""
    body = line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line
    text = "".join(c if c.isprintable() or c == "\t" else "?" for c in body)
    return (text if text.lstrip()[:1] in ("", "#") else MARK + text) + line[len(body) :]


def _first_wrong(lines: Sequence[str]) -> tuple[int, str] | None:
    """Number and reason of a line that must go; None when the file can be read."""
    try:
        document = tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError as exc:
        return _where_it_begins(lines), _WHERE.sub("", str(exc))
    for name, value in flatten(document).items():
        try:
            check(find_key(name), value)
        except UsageError as exc:
            return _line_of(lines, name), exc.message
    return None


def _where_it_begins(lines: Sequence[str]) -> int:
    """The line after the longest beginning that is TOML: the parser's own position is behind an open bracket or quote."""
    for count in range(min(len(lines), MAX_LINES) - 1, 0, -1):
        try:
            tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        return count + 1
    return 1


def _line_of(lines: Sequence[str], name: str) -> int:
    """Where the key, or the table that it is written into, begins."""
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(lines, 1):
        if match := _HEADER.match(line):
            table = _plain(match[1])
            found.setdefault(table, number)
        elif match := _ASSIGNMENT.match(line):
            found.setdefault(".".join(filter(None, [table, _plain(match[1])])), number)
    while name and name not in found:
        name = name.rpartition(".")[0]
    return found.get(name, len(lines))


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))
