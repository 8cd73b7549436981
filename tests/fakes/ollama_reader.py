"""Reads a model folder as Ollama does: every manifest, every blob it names, and nothing that does not fit together."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec

PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z", re.ASCII)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z", re.ASCII)


class ListedModel(msgspec.Struct):
    """What `ollama list` and `ollama show` would know of a model."""

    name: str
    config: dict[str, Any]
    layers: dict[str, bytes | Path]  # by the last part of the media type; the weights as a path


def listed(root: Path) -> dict[str, ListedModel]:
    """All models; an assertion fails where Ollama would pass over one or fail to load it."""
    found = {}
    for path in (root / "manifests").glob("*/*/*/*"):
        host, namespace, name, tag = path.relative_to(root / "manifests").parts
        assert (host, namespace) == ("registry.ollama.ai", "library")
        assert PART.match(name) and PART.match(tag), path
        assert not path.is_symlink()
        found[f"{name}:{tag}"] = _model(root, f"{name}:{tag}", json.loads(path.read_bytes()))
    return found


def _model(root: Path, name: str, manifest: dict[str, Any]) -> ListedModel:
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    config = json.loads(_blob(root, manifest["config"]).read_bytes())
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"] for layer in manifest["layers"]]}
    layers: dict[str, bytes | Path] = {}
    for layer in manifest["layers"]:
        prefix, _, kind = layer["mediaType"].rpartition(".")
        assert prefix == "application/vnd.ollama.image" and kind not in layers
        path = _blob(root, layer)
        layers[kind] = path if kind in ("model", "projector") else path.read_bytes()
    return ListedModel(name, config, layers)


def _blob(root: Path, layer: dict[str, Any]) -> Path:
    assert DIGEST.match(layer["digest"])
    path = root / "blobs" / layer["digest"].replace(":", "-")
    assert not path.is_symlink() and path.stat().st_size == layer["size"], path
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == path.name.removeprefix("sha256-")
    return path
