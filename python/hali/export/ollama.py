"""Ollama's model folder: `manifests/registry.ollama.ai/library/NAME/TAG` and `blobs/sha256-…`, as its own `create` writes them."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hali.config.paths import absolute
from hali.export.chat_formats import default_system, recognise
from hali.export.folder import Folder, How
from hali.export.go_template import PLAIN, go_template
from hali.export.model import Export, StoredModel, halves, header_of
from hali.hashing.files import hash_file
from hali.model.errors import Refused, UsageError
from hali.model.names import UNKNOWN, parse
from hali.wire.gguf import GgufHeader

REGISTRY = ("registry.ollama.ai", "library")
MANIFESTS = "manifests"
NEWER_MANIFESTS = "manifests-v2"  # read first by newer versions, written by their own `create` and `pull`
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.ollama.image."
OURS = "hali.model_id"  # OCI annotations are for such notes; Ollama passes over them
MAX_PART = 80  # bytes of a name or tag that Ollama accepts
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z", re.ASCII)
SERVICE_MODELS = Path("/usr/share/ollama/.ollama/models")  # of the service that Ollama's installer sets up on Linux


class Name(msgspec.Struct, frozen=True):
    """`name:tag`, as people type it."""

    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Where its manifest lies, below the folder of manifests."""
        return (*REGISTRY, self.name, self.tag)


class Image(msgspec.Struct, frozen=True):
    """Everything of one model but the weights themselves."""

    name: Name
    manifest: bytes
    blobs: Mapping[str, bytes]  # by digest, hex
    template: str  # name of the chat format; `plain` when none is known
    notes: tuple[str, ...]


def models_folder(env: Mapping[str, str], home: Path) -> Path:
    """`OLLAMA_MODELS`, else `~/.ollama/models`."""
    configured = env.get("OLLAMA_MODELS", "").strip().strip("\"'")
    return absolute(configured) if configured else home / ".ollama" / "models"


def derive_name(model: StoredModel, *, distinct: bool = False) -> Name:
    """`smollm2:135m-instruct-q4_1`, as Ollama's library names its own; `distinct` adds the hash, for files of one id."""
    found = parse(model.model_id)
    assert found is not None  # the store keeps no other
    known = [part for part in (found.size, found.variant, found.quant) if part != UNKNOWN]
    tag = "-".join([*known, *([model.sha256[:8]] if distinct else [])])
    return Name(_fitting(found.base, model.sha256), _fitting(tag or "latest", model.sha256))


def _fitting(text: str, sha256: str) -> str:
    """`text` with nothing in it that Ollama would refuse."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).lstrip(".-") or "model"
    return text if len(text) <= MAX_PART else f"{text[: MAX_PART - 9]}-{sha256[:8]}"


def parse_name(text: str) -> Name:
    """`name` or `name:tag` as the user gave it; UsageError when Ollama would not take it."""
    name, _, tag = text.partition(":")
    tag = tag or "latest"
    if not (_PART.match(name) and _PART.match(tag)):
        raise UsageError(f"{text!r} is no name for Ollama", hint="letters, digits, `_`, `.` and `-`: `llama3:8b-mine`")
    return Name(name, tag)


def image_of(model: StoredModel, header: GgufHeader, name: Name, projector: StoredModel | None = None) -> Image:
    """Manifest, configuration and small layers of a model. Pure: the same model gives the same bytes."""
    blobs: dict[str, bytes] = {}
    layers = [_layer("model", model.sha256, model.size)]
    if projector is not None:
        layers.append(_layer("projector", projector.sha256, projector.size))
    texts, template, notes = _texts(header)
    for kind, text in texts:
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        layers.append(_layer(kind, digest, len(data)))
    config = _encode(_config(header, [layer["digest"] for layer in layers], with_projector=projector is not None))
    digest = hashlib.sha256(config).hexdigest()
    blobs[digest] = config
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": f"sha256:{digest}", "size": len(config)},
        "layers": layers,
        "annotations": {OURS: model.model_id},
    }
    return Image(name, _encode(manifest), blobs, template, notes)


def _layer(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": LAYER_TYPE + kind, "digest": f"sha256:{digest}", "size": size}


def _texts(header: GgufHeader) -> tuple[list[tuple[str, str]], str, tuple[str, ...]]:
    """The layers that are texts, by kind; the name of the chat format; what the user should know."""
    known = recognise(header.chat_template) if header.chat_template else None
    found = [("template", go_template(known) if known else PLAIN)]
    if known and header.chat_template and (system := default_system(header.chat_template, known)):
        found.append(("system", system))
    if known:
        found.append(("params", json.dumps({"stop": list(known.stops)}, ensure_ascii=False, separators=(",", ":"))))
    if header.license:
        found.append(("license", header.license))
    notes: tuple[str, ...] = ()
    if header.chat_template and known is None:
        notes = (
            "its chat template is none that hali knows: Ollama gets a plain one and will not chat with it properly",
        )
    return found, known.name if known else "plain", notes


def _config(header: GgufHeader, layers: list[str], *, with_projector: bool) -> dict[str, Any]:
    return {
        "model_format": "gguf",
        "model_family": header.architecture,
        "model_families": [header.architecture, *(["clip"] if with_projector else [])],
        "model_type": human_number(header.parameters),
        "file_type": header.quantization or "unknown",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": layers},
    }


def human_number(count: int) -> str:
    """`134.52M`, `7.2B`, `8B`: as Ollama shows the number of parameters."""
    for unit, letter, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            return f"{count // unit}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return str(count)


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def export(model: StoredModel, folder: Folder, name: Name, projector: StoredModel | None = None) -> Export:
    """Put the model into Ollama's folder: blobs first, the manifest last, so that a listed model is whole.

    Refused when Ollama has another model of that name, which hali did not put there.
    """
    weights, _ = halves(model)
    header = header_of(weights)
    if header.is_projector:
        raise Refused(f"{model.model_id} is the vision or audio part of another model and cannot answer alone")
    if projector is not None and not header_of(projector).is_projector:
        raise Refused(f"{projector.file.name} is no vision or audio part", hint="give a file called mmproj-….gguf")
    image = image_of(weights, header, name, projector)
    _refuse_theirs(folder, name)
    how = _bring(folder, weights)
    changed = how != "kept"
    if projector is not None:
        changed |= _bring(folder, projector) != "kept"
    for digest, data in image.blobs.items():
        changed |= folder.write(data, "blobs", f"sha256-{digest}")
    changed |= folder.write(image.manifest, MANIFESTS, *name.parts)
    path = folder.root / "blobs" / f"sha256-{weights.sha256}"
    return Export(
        "ollama", model.model_id, model.sha256, str(name), str(path), how, changed, image.template, image.notes
    )


def _refuse_theirs(folder: Folder, name: Name) -> None:
    old = folder.stat(MANIFESTS, *name.parts)
    theirs = folder.stat(NEWER_MANIFESTS, *name.parts) is not None or (old is not None and not _is_ours(folder, name))
    if theirs:
        raise Refused(f"Ollama has a {name} of its own in {folder.root}", hint="choose another name with --as")


def _is_ours(folder: Folder, name: Name) -> bool:
    try:
        return OURS in json.loads(folder.read(MANIFESTS, *name.parts) or b"{}").get("annotations", {})
    except (ValueError, AttributeError):
        return False


def _bring(folder: Folder, model: StoredModel) -> How:
    """The file, unless it is there, linked or with the bytes that its name promises."""
    parts = ("blobs", f"sha256-{model.sha256}")
    old, mine = folder.stat(*parts), model.file.stat()
    if old is not None and stat.S_ISREG(old.st_mode) and old.st_size == model.size:
        same = (old.st_dev, old.st_ino) == (mine.st_dev, mine.st_ino)
        if same or hash_file(folder.root.joinpath(*parts)).sha256.hex() == model.sha256:
            return "kept"
    if mine.st_size != model.size:
        raise Refused(f"{model.model_id}: {model.file} is not {model.size} bytes", hint="`hali verify` reads it again")
    return folder.bring(model.file, *parts)
