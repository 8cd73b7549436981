"""Settings from defaults, file, environment and flags, each value with its source."""

from __future__ import annotations

import difflib
import os
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from hali.config.files import locked, write_secret
from hali.config.schema import KEYS, Key, Settings, value_of
from hali.model.errors import ConfigError, UsageError

Source = Literal["default", "file", "env", "flag"]
PREFIX = "HALI_"
VARIABLES = ("HALI_HOME", "HALI_HASH_BACKEND")  # that are no keys
FOREIGN = ("HALI_TEST_", "HALI_BUILD_", "HALI_BENCH", "HALI_LONG", "HALI_SANITIZED")  # of hali's own tests and builds
_BOOLS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Loaded(msgspec.Struct, frozen=True):
    """The settings in force, and where each came from."""

    settings: Settings
    sources: dict[str, Source]
    flags: dict[str, str] = {}  # those it was loaded with, for loading it again

    def rows(self) -> list[dict[str, Any]]:
        """Every key with value (secrets masked), source, unit, default, env, flag and doc, for `config show`."""
        return [self._row(key) for key in KEYS.values()]

    def _row(self, key: Key) -> dict[str, Any]:
        value = value_of(self.settings, key.name)
        shown = "********" if key.secret and value else value
        return {
            "key": key.name,
            "value": list(shown) if isinstance(shown, tuple) else shown,
            "source": self.sources.get(key.name, "default"),
            "unit": key.unit,
            "default": list(key.default) if isinstance(key.default, tuple) else key.default,
            "env": key.env,
            "flag": key.flag,
            "live": key.live,
            "secret": key.secret,
            "choices": key.choices,
            "separator": key.separator if isinstance(key.default, tuple) else None,
            "doc": key.doc,
        }


def find_key(name: str) -> Key:
    """The key called `name`; UsageError with the nearest names otherwise."""
    if name in KEYS:
        return KEYS[name]
    raise UsageError(_unknown(name), hint=_meant(name) or "`hali config show` lists all keys")


def _unknown(name: str) -> str:
    return f"unknown configuration key {name!r}"


def _meant(name: str) -> str:
    """The question whether one of the nearest names was meant; empty when none is near."""
    near = difflib.get_close_matches(name, KEYS, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else ""


def parse_text(key: Key, text: str) -> Any:
    """`text` from a flag, the environment or `config set` as a value of `key`; UsageError when it is none."""
    value: Any = text
    if isinstance(key.default, bool):
        value = _BOOLS.get(text.strip().lower(), text)
    elif isinstance(key.default, tuple):
        value = [part.strip() for part in text.split(key.separator) if part.strip()]
    return check(key, value, strict=False)


def check(key: Key, value: Any, *, strict: bool = True) -> Any:
    """`value` converted to the type of `key`; UsageError naming key and reason."""
    try:
        converted = msgspec.convert(value, key.type, strict=strict)
    except msgspec.ValidationError as exc:
        unit = f" ({key.unit})" if key.unit else ""
        got = "" if key.secret else f", got {value!r}"
        raise UsageError(f"{key.name}{unit}: {exc}{got}", hint=key.doc) from None
    if key.check is not None:
        key.check(converted)
    return converted


def load(path: Path, env: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None) -> Loaded:
    """Read `path` (may be missing), then environment, then flags; ConfigError names file, key and reason."""
    return resolve(read_file(path), path, os.environ if env is None else env, flags)


def resolve(
    document: Mapping[str, Any], path: Path, env: Mapping[str, str], flags: Mapping[str, str] | None = None
) -> Loaded:
    """`load` with the file's content at hand; `path` is for messages."""
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for name, value in flatten(document).items():
        values[name], sources[name] = _from_file(path, name, value), "file"
    for name, key in KEYS.items():
        if variable := variable_of(key, env):
            values[name], sources[name] = _from_text(variable, key, env[variable]), "env"
    for name, text in (flags or {}).items():
        values[name], sources[name] = parse_text(find_key(name), text), "flag"
    return Loaded(msgspec.convert(_nest(values), Settings), sources, dict(flags or {}))


def unknown_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like ours and that nothing reads, each with what is to be told of it."""
    known = {key.env for key in KEYS.values()} | set(VARIABLES)
    found = {name for name in env if name.startswith(PREFIX) and not name.startswith(FOREIGN)} - known
    return {name: _unread(name, difflib.get_close_matches(name, known, n=1, cutoff=0.8)) for name in sorted(found)}


def _unread(name: str, near: list[str]) -> str:
    return f"nothing reads the environment variable {name}{f': did you mean {near[0]}?' if near else ''}"


def variable_of(key: Key, env: Mapping[str, str]) -> str | None:
    """The environment variable that sets `key`, if one does."""
    return next((v for v in (key.env, key.also_env) if v and env.get(v)), None)


def _from_file(path: Path, name: str, value: Any) -> Any:
    if name not in KEYS:  # `config show` would fail by the same file
        hint = f"`hali config unset {shlex.quote(name)}` takes it out; {_meant(name)}".rstrip("; ")
        raise ConfigError(f"{path}: {_unknown(name)}", hint=hint)
    try:
        return check(KEYS[name], value)
    except UsageError as exc:
        raise ConfigError(f"{path}: {exc.message}", hint=exc.hint) from None


def _from_text(variable: str, key: Key, text: str) -> Any:
    try:
        return parse_text(key, text)
    except UsageError as exc:
        raise ConfigError(f"environment variable {variable}: {exc.message}", hint=exc.hint) from None


def read_file(path: Path) -> dict[str, Any]:
    """The TOML document at `path`; empty when there is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors put a mark in front
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} is not valid TOML: {exc}", hint="mend it with `hali config edit`") from None
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A document by dotted keys."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def store(path: Path, name: str, text: str | None) -> bool:
    """Set key `name` in the file to `text`, or remove it with None, also one that nobody knows; comments and order of the file are kept.

    False, and the file is as it was, when a key to be removed is not in it.
    """
    import tomlkit  # only `config set` writes; every other command should not pay for the import

    value = None if text is None else parse_text(find_key(name), text)
    with locked(path):  # two that write at the same moment would else both begin from what was there before
        read_file(path)  # a file that is no TOML is told as such, and not written over
        document = tomlkit.parse(path.read_text(encoding="utf-8-sig")) if path.exists() else tomlkit.document()
        if text is not None:
            _put(path, document, name, list(value) if isinstance(value, tuple) else value)
        elif (found := _holder(document, name)) is not None:
            del found[0][found[1]]
        else:
            find_key(name)  # one that is neither in the file nor known is a slip
            return False
        # The file may hold the LAN secret, so it is never readable by others.
        write_secret(path.resolve(), tomlkit.dumps(document).encode())  # also where it is a link to another place
    return True


def _put(path: Path, document: Any, name: str, value: Any) -> None:
    import tomlkit

    *parents, leaf = name.split(".")
    table = document
    for parent in parents:
        table = table.setdefault(parent, tomlkit.table())
        if not isinstance(table, Mapping):
            raise ConfigError(f"{path}: {parent} is a value, not a table", hint="mend it with `hali config edit`")
    table[leaf] = value


def _holder(table: Any, name: str) -> tuple[Any, str] | None:
    """The table that holds key `name`, by names as `flatten` makes them, and what it is called there; a table itself is no key."""
    if name in table and not isinstance(table[name], Mapping):
        return table, name
    below = ((part, each) for part, each in table.items() if isinstance(each, Mapping) and name.startswith(f"{part}."))
    return next(filter(None, (_holder(each, name[len(part) + 1 :]) for part, each in below)), None)
