"""The torrents of the models of this node: built from digests, with their web seeds, and what they say about damage."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from hali.model import splits
from hali.model.digests import FileDigests
from hali.share.incoming_model import Arrived
from hali.store.models import Metadata
from hali.transfer import bundle, metainfo
from hali.transfer.torrent_files import TorrentFile

HUB = "https://huggingface.co"  # the web seed is part of the torrent's generation rule: never a mirror


def torrent_name(files: Sequence[str]) -> str:
    """A torrent of one file has the file's name, one of several the stem of the file that is opened to run the model."""
    return files[0] if len(files) == 1 else splits.stem(files[0])


def torrent_of(files: Sequence[Arrived], webseeds: Sequence[str]) -> bytes:
    """hali's torrent of these files, of which the first is the one to open."""
    name = torrent_name([file.path.name for file in files])
    if len(files) == 1:
        return metainfo.build(files[0].digests, name, webseeds=webseeds)
    members = [bundle.Member(file.path.name, file.digests, file.padded) for file in files]
    return bundle.build(members, name, webseeds=webseeds)


def webseed_of(path: str, repo: str | None, revision: str | None) -> tuple[str, ...]:
    """The address of a file of the hub, for those who have no peer."""
    return (f"{HUB}/{repo}/resolve/{revision}/{quote(path)}",) if repo and revision else ()


def webseeds_of(meta: Metadata) -> tuple[str, ...]:
    """The addresses at the repository that BEP 19 makes the files' of."""
    paths = [part.hf_path or part.name for part in meta.each]
    if len(paths) == 1:
        return webseed_of(paths[0], meta.hf_repo, meta.hf_revision)
    # BEP 19 appends the torrent's name and the file's: right only where the repository has the files in a folder of that name.
    name = torrent_name(meta.files)
    above, _, _ = paths[0].removesuffix(f"{name}/{meta.files[0]}").rpartition("/")
    base = f"{above}/" if above else ""
    fits = all(path == f"{base}{name}/{part.name}" for path, part in zip(paths, meta.each, strict=True))
    return webseed_of(base, meta.hf_repo, meta.hf_revision) if fits else ()


def wrong_pieces(digests: FileDigests, promised: TorrentFile) -> list[int]:
    """Indices of 16 MiB pieces of a file whose node in the merkle tree differs from the torrent's, or that only one side has."""
    have, want = digests.v2_layer or digests.v2_root, promised.layer or promised.root or b""
    count = max(len(have), len(want)) // 32
    return [i for i in range(count) if have[32 * i : 32 * i + 32] != want[32 * i : 32 * i + 32]]
