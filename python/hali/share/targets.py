"""What the user asked for, told apart by its form alone; nothing is looked up here."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import msgspec

from hali.config.paths import absolute
from hali.model import names
from hali.model.errors import Refused, UsageError
from hali.model.filenames import is_safe_path
from hali.model.ids import is_hash_prefix, is_hex
from hali.transfer.http_guard import check_link
from hali.transfer.hub_choice import is_repo_name, parse_hub_name

MAX_WHAT = 8192  # a magnet with many web seeds; beyond that it is an attack or a mistake

WEB = ("http://", "https://")  # where a .torrent may come from; a file is named by its path

LINK = "hali://model/"
MAX_LINK = 2048  # as other readers of these links have it; a repository with revision and file takes under 1,000
MAX_LINK_FILE = 512
_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)  # a percent sign that encodes nothing
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
_QUANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z", re.ASCII)


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
    """A URL that the user typed, or was made to paste; it is kept in the database and the log, so no password may be in it."""
    try:
        check_link(url)
    except Refused as refused:
        raise UsageError(refused.message, hint="download the .torrent and give its path") from refused
    return url


def parse_target(what: str) -> Target:
    """Tell the forms apart; UsageError when `what` is none of them."""
    what = what.strip()
    if not what or len(what) > MAX_WHAT or any(ord(c) < 32 for c in what):
        raise UsageError("nothing to pull: empty or unprintable name", hint="see `hali pull --help`")
    if what.lower().startswith("magnet:"):
        return MagnetTarget(what)
    if what.lower().startswith("hali://"):
        return parse_link(what)
    if is_hex(what.lower(), 40):
        return MagnetTarget(f"magnet:?xt=urn:btih:{what.lower()}")
    if what.lower().endswith(".torrent") and ("://" not in what or what.lower().startswith(WEB)):
        return TorrentTarget(_web(what) if "://" in what else str(absolute(what)))
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


def of_quant(target: Target, quant: str | None) -> Target:
    """`target` in this quantization, where it names none and is not one file already."""
    match target:
        case RepoTarget(quant=None, file=None):
            return msgspec.structs.replace(target, quant=quant)
        case NameTarget(name=name) if quant is not None and not (is_hash_prefix(name) or name.endswith(".gguf")):
            wanted = quant.strip().lower()
            return target if wanted in name.split(":")[1:] else NameTarget(f"{name}:{wanted}")
    return target


def parse_link(link: str) -> Target:
    """What `hali://model/WHAT[?version=…&file=…]` names: an id, a SHA-256 or infohash, or `owner/repo[:quant]`. UsageError otherwise.

    Anybody may write such a link and a click follows it, so it carries names only: no address, no peer, no path on this machine.
    """
    if len(link) > MAX_LINK:
        raise _bad_link(link, f"more than {MAX_LINK} characters")
    if not link.lower().startswith(LINK):
        raise _bad_link(link, f"it does not begin with {LINK}")
    path, _, query = link[len(LINK) :].partition("?")
    name, asked = _decoded(link, path), _query(link, query)
    if "/" in name:
        return _link_to_repo(link, name, asked)
    if asked:
        raise _bad_link(link, "version and file belong to a repository")
    if is_hex(name.lower(), 40):
        return MagnetTarget(f"magnet:?xt=urn:btih:{name.lower()}")
    if is_hex(name.lower(), 64) or names.parse(name) is not None:
        return NameTarget(name.lower())
    raise _bad_link(link, "it names no id (base:size:variant:quant), hash or owner/repo")


def _link_to_repo(link: str, name: str, asked: dict[str, str]) -> RepoTarget:
    repo, colon, quant = name.partition(":")
    file, version = asked.get("file"), asked.get("version")
    if not is_repo_name(repo) or (colon and not _QUANT.match(quant)) or (colon and file is not None):
        raise _bad_link(link, "it names no owner/repo[:quant]")
    if version is not None and not _REVISION.match(version):
        raise _bad_link(link, "its version is no commit, tag or branch")
    if file is not None and not _is_plain_path(file):
        raise _bad_link(link, "its file is no path inside a repository")
    return RepoTarget(repo, None if version == "latest" else version, quant or None, file)


def _decoded(link: str, text: str) -> str:
    """Percent-decoded once; what is then still encoded, leaves its folder, or cannot be shown is refused."""
    try:
        plain = unquote_to_bytes(text).decode()
    except UnicodeError:
        plain = ""
    wrong = _ENCODED.search(text) or "%" in plain or ".." in plain or "\\" in plain
    if wrong or not plain or not plain.isprintable():
        raise _bad_link(link, "it is empty or not encoded as links are")
    return plain


def _query(link: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        key, _, value = pair.partition("=")
        if key not in ("version", "file") or key in found or not value:
            raise _bad_link(link, f"{key[:40]!r} is not understood; once version=… and once file=… are")
        found[key] = _decoded(link, value)
    return found


def _is_plain_path(file: str) -> bool:
    inside = all(part not in ("", ".") for part in file.split("/"))
    return inside and is_safe_path(file) and len(file) <= MAX_LINK_FILE and not set(file) & set(":?#")


def _bad_link(link: str, why: str) -> UsageError:
    return UsageError(f"cannot follow {link[:80]!r}: {why}", hint=f"{LINK}owner/repo:Q4_K_M is one that works")
