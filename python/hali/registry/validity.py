"""What can be recomputed of an entry: the torrent's hashes, layout, names and sizes against the manifest, and the file's header."""

from __future__ import annotations

import re

import msgspec

from hali.model.errors import ProtocolError, VerificationFailed
from hali.model.units import PIECE
from hali.registry import head as heads
from hali.registry.documents import Manifest
from hali.registry.head import Head
from hali.transfer.metainfo import Metainfo, parse
from hali.wire.gguf import GgufError
from hali.wire.gguf_head import read_head

# The part of a quantization's name that says how the weights are stored: `ud-q4_k_xl` and `Q4_K_M` are both q4.
_FAMILY = re.compile(r"(i?q[1-8]|tq[12]|bf16|fp?16|fp?32|mxfp4)")
_SAME = {"fp16": "f16", "fp32": "f32"}


class Checks(msgspec.Struct, frozen=True):
    """The three facts behind the format points of the trust score."""

    torrent: bool = False
    layers: bool = False
    header: bool = False


def check(manifest: Manifest, torrent: bytes | None, head: Head | None) -> Checks:
    """What is known of a manifest; VerificationFailed (`torrent_disagrees`) when its torrent is of something else."""
    if torrent is None:
        return Checks()
    parsed = _agreeing(manifest, torrent)
    return Checks(True, heads.layers_agree(parsed), head is not None and _header_agrees(manifest, parsed, head))


def matching_torrent(manifest: Manifest, torrent: bytes) -> Metainfo:
    """The parsed torrent; VerificationFailed unless all of it, recomputed, is what the manifest promises."""
    parsed = _agreeing(manifest, torrent)
    if not heads.layers_agree(parsed):
        raise VerificationFailed("the torrent's piece layer does not hash up to its root", code="bad_torrent")
    return parsed


def _agreeing(manifest: Manifest, torrent: bytes) -> Metainfo:
    try:
        parsed = parse(torrent)
    except ProtocolError as exc:
        raise VerificationFailed(exc.message, code="bad_torrent") from None
    if wrong := disagreement(manifest, parsed):
        raise VerificationFailed(f"the torrent is not the manifest's: {wrong}", code="torrent_disagrees")
    return parsed


def disagreement(manifest: Manifest, torrent: Metainfo) -> str | None:
    """What differs between manifest and torrent, or None."""
    if (torrent.infohashes.v1, torrent.infohashes.v2) != (manifest.infohash_v1, manifest.infohash_v2):
        return "its infohashes differ"
    if torrent.piece_length != PIECE:
        return f"its pieces have {torrent.piece_length} bytes, not 16 MiB"
    there = sorted((file.path[-1], file.length) for file in torrent.files)
    if there != sorted((file.name, file.size) for file in manifest.files):
        return "its file names or sizes differ"
    return None


def _header_agrees(manifest: Manifest, torrent: Metainfo, head: Head) -> bool:
    if not torrent.is_single_file or not heads.proves(head, torrent):
        return False
    try:
        found = read_head(head.block, torrent.length)
    except GgufError:
        return False
    said = _family(manifest.model_id.rpartition(":")[2])
    stored = _family((found.quantization or "").lower())
    return found.tensor_count > 0 and (said is None or stored is None or said == stored)


def _family(quant: str) -> str | None:
    match = _FAMILY.search(quant)
    return None if match is None else _SAME.get(match[1], match[1])
