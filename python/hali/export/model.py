"""What an export needs to know of a model of the store."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hali.model.errors import HaliError, NotFound, Refused
from hali.model.splits import is_projector
from hali.wire.gguf import GgufHeader, read_header_file


class StoredPart(msgspec.Struct, frozen=True):
    """One file of a model of several."""

    name: str
    size: int
    sha256: str


class StoredModel(msgspec.Struct, frozen=True):
    """A model as `hali info --json` tells it."""

    model_id: str
    sha256: str
    size: int
    path: str
    files: list[str]
    state: str
    hf_repo: str | None = None
    error: str | None = None
    parts: list[StoredPart] = []  # in the order of `files`; empty where there is one

    @property
    def file(self) -> Path:
        """Where it lies."""
        return Path(self.path)

    @property
    def is_gguf(self) -> bool:
        """By its name: only such files mean anything to the other programs."""
        return self.path.lower().endswith(".gguf")


class Export(msgspec.Struct, frozen=True):
    """What came of exporting one model."""

    target: str  # `ollama` or `lmstudio`
    model_id: str
    sha256: str
    name: str  # what the other program calls it
    path: str  # of the model file there
    how: str  # reflink, link, copy, or kept: it was there already
    changed: bool
    template: str | None = None  # the chat format; None where the target reads the file's own
    notes: tuple[str, ...] = ()


# Why a file in this state is no whole model, where it does not say so itself.
_WHY = {
    "damaged": "its file changed since it was verified",
    "missing": "its file is gone",
    "unverified": "its file changed since it was verified",
    "partial": "some of its layers are not here",
}


def header_of(model: StoredModel) -> GgufHeader:
    """Of a whole, verified model of one file; Refused for anything else."""
    if model.state in _WHY:
        raise Refused(
            f"{model.model_id} is {model.state}: {model.error or _WHY[model.state]}",
            hint="`hali verify` reads it again, `hali pull` fetches it again",
        )
    if model.state == "hashing":
        raise Refused(f"{model.model_id} is being verified", hint="try again in a moment")
    if len(model.files) > 1:
        raise Refused(
            f"{model.model_id} lies in {len(model.files)} files; only models of one file and their projector can be exported"
        )
    try:
        header = read_header_file(model.file)
    except FileNotFoundError:
        raise NotFound(f"{model.model_id}: its file is gone from {model.file.parent}") from None
    except HaliError as exc:
        raise Refused(f"{model.file.name}: {exc.message}", hint="only GGUF models can be exported") from None
    except OSError as exc:
        raise Refused(f"{model.model_id}: {model.file} cannot be read: {exc.strerror}") from None
    if header.split_count is not None and header.split_count > 1:
        raise Refused(
            f"{model.model_id} is one of {header.split_count} parts of a split model",
            hint="join the parts with llama.cpp's `llama-gguf-split --merge`, then `hali add` the result",
        )
    return header


def halves(model: StoredModel) -> tuple[StoredModel, StoredModel | None]:
    """The weights and the projector of a model of just these two files, each as one of one file; any other model as it is."""
    if len(model.parts) != 2 or not is_projector(model.parts[1].name):
        return model, None
    weights, projector = (
        msgspec.structs.replace(
            model,
            sha256=part.sha256,
            size=part.size,
            path=str(model.file.with_name(part.name)),
            files=[part.name],
            parts=[],
        )
        for part in model.parts
    )
    return weights, projector


def projector_of(model: StoredModel, models: list[StoredModel]) -> StoredModel | None:
    """The model's own vision or audio part, else the one that came from the same repository, when there is exactly one."""
    if (own := halves(model)[1]) is not None:
        return own
    found = [
        other
        for other in models
        if model.hf_repo
        and other.hf_repo == model.hf_repo
        and "mmproj" in other.file.name.lower()
        and other.sha256 != model.sha256
    ]
    return found[0] if len(found) == 1 else None
