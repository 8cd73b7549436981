"""Torrents of several files: built from digests, and which of those that come from strangers can be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import libtorrent as lt
import msgspec

from hali.model.digests import FileDigests
from hali.model.errors import Refused, UsageError
from hali.model.filenames import safe_name, unsafe
from hali.model.splits import in_order
from hali.model.units import PIECE
from hali.transfer.metainfo import GENERATION, Metainfo, check_digests

URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]\\"  # what `quote` leaves as it is; a backslash is refused later
MAX_FILES = 256  # each is open twice while it comes, and systems allow a process 1,024 open files; the largest models have 200 parts


class Member(msgspec.Struct, frozen=True):
    """One file for a torrent of several. `padded` is the SHA-1 of its last piece with zeros up to 16 MiB."""

    name: str
    digests: FileDigests
    padded: bytes


def build(members: Sequence[Member], name: str, *, webseeds: Sequence[str] = ()) -> bytes:
    """The hybrid torrent of a folder `name` with these files, bencoded, in the order of BEP 52; UsageError for impossible names.

    Pad files (BEP 47) stand between files only: behind the last one they would be bytes that serve nobody.
    """
    by_name = {member.name: member for member in members}
    for each in (name, *by_name):
        if reason := unsafe(each):
            raise UsageError(f"cannot make a torrent of a file called {each[:80]!r}: {reason}")
    if len(by_name) < max(2, len(members)):
        raise UsageError(f"{name}: a torrent of several files needs as many names")
    ordered = [by_name[each] for each in in_order(by_name)]
    for member in ordered:
        check_digests(member.digests)
    torrent: dict[bytes, Any] = {
        b"created by": GENERATION.encode(),
        b"info": _info(ordered, name.encode()),
        b"piece layers": {m.digests.v2_root: m.digests.v2_layer for m in ordered if m.digests.v2_layer},
    }
    if webseeds:
        torrent[b"url-list"] = [url.encode() for url in webseeds]
    return bytes(lt.bencode(torrent))


def _info(ordered: Sequence[Member], name: bytes) -> dict[bytes, Any]:
    files: list[dict[bytes, Any]] = []
    pieces = b""
    for member in ordered:
        digests, last = member.digests, member is ordered[-1]
        files.append({b"length": digests.length, b"path": [member.name.encode()]})
        padding = -digests.length % PIECE
        if padding and not last:
            files.append({b"attr": b"p", b"length": padding, b"path": [b".pad", str(padding).encode()]})
            pieces += digests.sha1_pieces[:-20] + member.padded
        else:
            pieces += digests.sha1_pieces
    return {
        b"file tree": {
            m.name.encode(): {b"": {b"length": m.digests.length, b"pieces root": m.digests.v2_root}} for m in ordered
        },
        b"files": files,
        b"meta version": 2,
        b"name": name,
        b"piece length": PIECE,
        b"pieces": pieces,
    }


def names_of(metainfo: Metainfo) -> list[str]:
    """The names of all files, which may be created side by side in one folder; Refused for torrents that hali cannot take."""
    if metainfo.is_single_file:
        return [metainfo.name]
    if not metainfo.is_aligned:
        raise Refused(
            f"{metainfo.name} is a torrent whose pieces cross the borders of its files",
            hint="hali takes several files by v2 and hybrid torrents, or by v1 torrents with padding (BEP 47)",
        )
    if any(len(file.path) != 1 for file in metainfo.files):
        raise Refused(f"{metainfo.name} is a torrent with folders in it", hint="hali takes the files of one folder")
    if any(file.length == 0 for file in metainfo.files):
        raise Refused(f"{metainfo.name} is a torrent with an empty file", hint="a model has none")
    if len(metainfo.files) > MAX_FILES:
        raise Refused(f"{metainfo.name} is a torrent of {len(metainfo.files)} files; a model has {MAX_FILES} at most")
    names = [safe_name(file.path[0]) for file in metainfo.files]
    if len({name.casefold() for name in names}) < len(names):
        raise Refused(f"{metainfo.name} is a torrent with two files of one name")
    return names


def address_of(url: str, metainfo: Metainfo, name: str) -> str:
    """Where a web seed has a file of the torrent (BEP 19): of a torrent of several files it names the folder that holds theirs.

    One that ends with a slash names the folder of a single file too. Spaces and other letters, which many write as they are, are encoded.
    """
    url = quote(url, safe=URL_CHARACTERS)
    if metainfo.is_single_file:
        return url + quote(name) if url.endswith("/") else url
    return f"{url.rstrip('/')}/{quote(metainfo.name)}/{quote(name)}"
