"""What the user asked for, told apart by its form alone; nothing is looked up here."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from hali.model.errors import UsageError
from hali.model.filenames import is_safe_path
from hali.model.ids import is_hex
from hali.transfer.http_guard import origin, redacted
from hali.transfer.hub_choice import parse_hub_name

MAX_WHAT = 8192  # a magnet with many web seeds; beyond that it is an attack or a mistake

WEB = ("http://", "https://")  # where a .torrent may come from; a file is named by its path


class MagnetTarget(msgspec.Struct, frozen=True, tag="magnet"):
    """A magnet link, or a bare infohash as one."""

    uri: str


class TorrentTarget(msgspec.Struct, frozen=True, tag="torrent"):
    """A .torrent file by path or URL."""

    location: str


class RepoTarget(msgspec.Struct, frozen=True, tag="repo"):
    """`owner/repo[@revision][:quant]` or `owner/repo[@revision]/file.gguf`."""

    repo: str
    revision: str | None = None
    quant: str | None = None
    file: str | None = None


class NameTarget(msgspec.Struct, frozen=True, tag="name"):
    """A model id, part of one, or a SHA-256: looked up in the store, then on the LAN."""

    name: str


Target = MagnetTarget | TorrentTarget | RepoTarget | NameTarget


def _web(url: str) -> str:
    """A URL that the user typed; it is kept in the database and the log, so no password may be in it."""
    origin(url)
    if "@" in urlsplit(url).netloc:
        raise UsageError(f"{redacted(url)}: a user name or password in a URL is not taken", hint="download it first")
    return url


def parse_target(what: str) -> Target:
    """Tell the forms apart; UsageError when `what` is none of them."""
    what = what.strip()
    if not what or len(what) > MAX_WHAT or any(ord(c) < 32 for c in what):
        raise UsageError("nothing to pull: empty or unprintable name", hint="see `hali pull --help`")
    if what.lower().startswith("magnet:"):
        return MagnetTarget(what)
    if is_hex(what.lower(), 40):
        return MagnetTarget(f"magnet:?xt=urn:btih:{what.lower()}")
    if what.lower().endswith(".torrent") and ("://" not in what or what.lower().startswith(WEB)):
        return TorrentTarget(_web(what) if "://" in what else str(Path(what).expanduser().absolute()))
    if (name := parse_hub_name(what)) is not None:
        if name.file is not None and not is_safe_path(name.file):
            raise UsageError(f"{name.file[:80]!r} is not the path of a file in a repository")
        return RepoTarget(name.repo, name.revision, name.quant, name.file)
    if "://" in what or "/" in what:
        raise UsageError(
            f"cannot pull from {what[:80]!r}",
            hint="magnet links, .torrent files, owner/repo and model ids are understood",
        )
    return NameTarget(what.lower())
