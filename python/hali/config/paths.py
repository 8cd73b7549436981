"""Where a node keeps its things. `HALI_HOME` moves all of it; two homes are two nodes."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from hali.model.errors import ConfigError, Failed, Refused, UsageError, system_error

PRIVATE = 0o700
# Bytes of the data directory: SQLite takes paths of 512, with the names of the database and its journal in it.
LONGEST = 496


class Paths(msgspec.Struct, frozen=True):
    """The files below the data directory `home`."""

    home: Path

    @property
    def config(self) -> Path:
        """Settings, TOML."""
        return self.home / "config.toml"

    @property
    def identity(self) -> Path:
        """Ed25519 private key, PEM, 0600."""
        return self.home / "identity.key"

    @property
    def publisher_key(self) -> Path:
        """Ed25519 private key that signs manifests, PEM, 0600. Not the node's own: it can be changed, and tells nothing of the node."""
        return self.home / "publisher.key"

    @property
    def address(self) -> Path:
        """`127.0.0.1:PORT` of the running daemon's IPC."""
        return self.home / "daemon.addr"

    @property
    def token(self) -> Path:
        """Secret that every IPC request carries, 0600, new at each start."""
        return self.home / "daemon.token"

    @property
    def lock(self) -> Path:
        """Held (flock) while a daemon of this home lives."""
        return self.home / "daemon.lock"

    @property
    def last_exit(self) -> Path:
        """Why the last daemon ended, when that was not in order; JSON."""
        return self.home / "last_exit.json"

    @property
    def api_key(self) -> Path:
        """Key of the HTTP API for anything but loopback, 0600."""
        return self.home / "api.key"

    @property
    def prompts(self) -> Path:
        """What was typed in chats, 0600."""
        return self.home / "prompts"

    @property
    def database(self) -> Path:
        """SQLite."""
        return self.home / "hali.db"

    @property
    def torrents(self) -> Path:
        """`<infohash>.torrent` of everything we seed."""
        return self.home / "torrents"

    @property
    def logs(self) -> Path:
        """`hali.log` and its predecessors."""
        return self.home / "logs"

    def models(self, configured: str = "") -> Path:
        """The model store; `configured` is the key `models_dir`, relative to the data directory."""
        return self.home / expanded(configured) if configured else self.home / "models"

    def create(self) -> None:
        """Make the data directory; one clear error when it cannot be written."""
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
            for directory in (self.torrents, self.logs):
                directory.mkdir(exist_ok=True, mode=PRIVATE)
        except PermissionError as exc:
            raise Refused(f"no permission to write {exc.filename}", hint="set HALI_HOME to a folder of yours") from None
        except (FileExistsError, NotADirectoryError) as exc:
            raise ConfigError(f"{exc.filename} is no folder", hint="set HALI_HOME to another path") from None
        except OSError as exc:
            raise system_error(exc) from None


def expanded(text: str) -> Path:
    """The path that the user means, `~` spelled out; UsageError for the home of nobody, and for what no path can be."""
    if "\0" in text:
        raise UsageError(f"{text!r}: no path has a zero byte")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        told = f"{text}: the home of {Path(text).parts[0]} is not known"
        raise UsageError(told, hint="give a full path") from None


def absolute(text: str) -> Path:
    """The same as a whole path; Failed for a relative one where the current folder is gone."""
    path = expanded(text)
    try:
        return path.absolute()
    except FileNotFoundError:
        told = f"{text}: the current folder is gone, so nothing can be found from it"
        raise Failed(told, hint="`cd` to a folder that is there, or give a full path") from None


def _home(text: str) -> Path:
    try:
        return absolute(text)
    except UsageError as exc:
        raise ConfigError(f"HALI_HOME: {exc.message}", hint=exc.hint) from None


def is_utf8(text: str) -> bool:
    """False for what Python makes of a file name in another encoding: it can be neither sent nor kept."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def from_environment(env: Mapping[str, str] | None = None) -> Paths:
    """`HALI_HOME`, else `~/.hali`; ConfigError for a path that no folder can have."""
    env = os.environ if env is None else env
    home = env.get("HALI_HOME")
    found = Paths(_home(home) if home else Path.home() / ".hali")
    if not is_utf8(str(found.home)):
        raise ConfigError("HALI_HOME is not UTF-8", hint="set it to a path that can be written down")
    try:
        found.home.stat()
    except OSError as exc:
        if exc.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise ConfigError(f"HALI_HOME cannot be a folder: {exc.strerror}", hint="set it to another path") from None
    if (length := len(os.fsencode(os.path.realpath(found.home)))) > LONGEST:  # as SQLite counts it, without links
        told = f"HALI_HOME has {length} bytes, and the database takes {LONGEST} at most"
        raise ConfigError(told, hint="set it to a shorter path")
    return found
