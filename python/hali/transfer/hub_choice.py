"""Which file of a Hugging Face repository is meant. Pure; the network part is `hub.py`."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import msgspec

from hali.model.errors import AmbiguousName, NotFound, Refused, UsageError
from hali.model.units import format_bytes

DEFAULT_QUANT = "Q4_K_M"  # sharing.md: the usual balance of size and quality, and what nearly every repository has

# llama.cpp's file types as file names spell them, with Unsloth's UD- prefix: Q4_K_M, IQ2_XXS, TQ1_0, Q4_0_4_8, BF16 …
_QUANT = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d{1,2}(?:_[0-9A-Z]{1,3})*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))(?=[-._/]|$)",
    re.IGNORECASE | re.ASCII,
)
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf\Z", re.IGNORECASE | re.ASCII)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}\Z", re.ASCII)


class RepoFile(msgspec.Struct, frozen=True):
    """One file of a repository at a commit. `sha256` is the LFS oid; None for files kept in git itself."""

    name: str  # path inside the repository
    size: int
    sha256: str | None

    @property
    def base(self) -> str:
        """The name without folders."""
        return self.name.rpartition("/")[2]

    @property
    def is_gguf(self) -> bool:
        """True for GGUF files of any kind."""
        return self.name.lower().endswith(".gguf")

    @property
    def is_model(self) -> bool:
        """True for GGUF files that hold a model: not a vision projector, not an importance matrix."""
        lower = self.base.lower()
        return self.is_gguf and "mmproj" not in lower and "imatrix" not in lower

    @property
    def is_split(self) -> bool:
        """True for one part of a model (`-00001-of-00003.gguf`)."""
        return _SPLIT.search(self.base) is not None

    @property
    def quant(self) -> str | None:
        """The quantisation as the name says it, upper case; None if it does not."""
        return quant_of(self.name)


class RepoListing(msgspec.Struct, frozen=True):
    """A repository at one commit; GGUF models first, then the rest, smallest first in each."""

    repo: str
    commit: str
    files: tuple[RepoFile, ...]

    @property
    def models(self) -> tuple[RepoFile, ...]:
        """What a pull may choose from."""
        return tuple(file for file in self.files if file.is_model)


class HubName(msgspec.Struct, frozen=True):
    """`owner/repo[@revision][:quant]` or `owner/repo[@revision]/file`, taken apart."""

    repo: str
    revision: str | None = None
    quant: str | None = None
    file: str | None = None


def quant_of(name: str) -> str | None:
    """`a/Model-7B-UD-Q4_K_XL.gguf` → `UD-Q4_K_XL`; the last one in the file name, else in its folders, else None."""
    stem = re.sub(r"\.gguf\Z", "", _SPLIT.sub("", name), flags=re.IGNORECASE)
    folder, _, base = stem.rpartition("/")
    found: list[str] = _QUANT.findall(base) or _QUANT.findall(folder)
    if not found:
        return None
    quant = found[-1].upper()
    return {"FP16": "F16", "FP32": "F32"}.get(quant, quant)


def is_repo_name(text: str) -> bool:
    """True for `owner/name` of the characters the hub allows."""
    return _REPO.match(text) is not None


def parse_hub_name(text: str) -> HubName | None:
    """What `text` names on the hub, or None if it has another form. Hub URLs (`/blob/`, `/resolve/`) are understood."""
    if text.startswith(("http://", "https://")):
        return _from_url(text)
    parts = text.split("/", 2)
    if len(parts) < 2:
        return None
    owner, name, file = parts[0], parts[1], parts[2] if len(parts) == 3 else None
    name, colon, quant = name.partition(":")
    name, at, revision = name.partition("@")
    if not is_repo_name(f"{owner}/{name}") or (colon and (not quant or file)) or (at and not revision) or file == "":
        return None
    return HubName(f"{owner}/{name}", revision or None, quant or None, file)


def _from_url(text: str) -> HubName | None:
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
    except ValueError:  # brackets that hold no address
        return None
    pieces = unquote(parts.path).strip("/").split("/")
    if host not in ("huggingface.co", "www.huggingface.co", "hf.co") or len(pieces) < 2:
        return None
    repo = "/".join(pieces[:2])
    if not is_repo_name(repo):
        return None
    if len(pieces) >= 5 and pieces[2] in ("blob", "resolve"):
        return HubName(repo, pieces[3], None, "/".join(pieces[4:]))
    if len(pieces) == 4 and pieces[2] == "tree":
        return HubName(repo, pieces[3])
    return HubName(repo) if len(pieces) == 2 else None


def choose(listing: RepoListing, *, quant: str | None = None, file: str | None = None) -> RepoFile:
    """The one file that is meant: by name, quant or default quant. Raises NotFound, AmbiguousName, Refused."""
    if file is not None and quant is not None:
        raise UsageError(f"{listing.repo}: name a file or a quant, not both")
    if file is not None:
        return _by_name(listing, file)
    models = listing.models
    if not models:
        raise NotFound(
            f"{listing.repo}: no GGUF model in this repository",
            hint="look for a conversion of it: hali search " + listing.repo.partition("/")[2],
        )
    return _by_quant(listing, models, quant) if quant else _default(listing, models)


def _by_name(listing: RepoListing, name: str) -> RepoFile:
    exact = [f for f in listing.files if f.name == name] or [f for f in listing.files if f.base == name]
    if not exact:
        raise NotFound(f"{listing.repo}: no file {name!r} at {listing.commit[:12]}", hint=_offer(listing.models))
    if len(exact) > 1:
        raise _ambiguous(listing, exact, f"{name!r} is in several folders")
    return _whole(listing, exact)


def _by_quant(listing: RepoListing, models: tuple[RepoFile, ...], quant: str) -> RepoFile:
    wanted = {"FP16": "F16", "FP32": "F32"}.get(quant.upper(), quant.upper())
    found = [f for f in models if f.quant == wanted]
    if not found:
        raise NotFound(f"{listing.repo}: no {wanted} file", hint=_offer(models))
    return _whole(listing, found, f"several files are {wanted}")


def _default(listing: RepoListing, models: tuple[RepoFile, ...]) -> RepoFile:
    whole = [f for f in models if not f.is_split]
    if len(whole) <= 1:
        return _whole(listing, whole or models)
    usual = [f for f in whole if f.quant == DEFAULT_QUANT]
    if len(usual) == 1:
        return usual[0]
    raise _ambiguous(listing, whole, f"{len(whole)} models to choose from")


def _whole(listing: RepoListing, found: list[RepoFile] | tuple[RepoFile, ...], why: str = "several files") -> RepoFile:
    """The only file of `found` that is not part of a split."""
    whole = [f for f in found if not f.is_split]
    if not whole:
        raise Refused(
            f"{listing.repo}: {found[0].base} is one part of {len(found)} or more (a GGUF split)",
            hint="split models come in a later version; choose a quant that is one file",
        )
    if len(whole) > 1:
        raise _ambiguous(listing, whole, why)
    return whole[0]


def _ambiguous(listing: RepoListing, files: list[RepoFile], why: str) -> AmbiguousName:
    ordered = sorted(files, key=lambda f: (f.size, f.name))
    error = AmbiguousName(
        f"{listing.repo}: {why}",
        choices=[f"{listing.repo}/{f.name}" for f in ordered],
        hint="choose one: " + ", ".join(f"{f.quant or f.base} ({format_bytes(f.size)})" for f in ordered[:20]),
    )
    error.details["sizes"] = [f.size for f in ordered]
    return error


def _offer(models: tuple[RepoFile, ...]) -> str | None:
    names = sorted({f.quant or f.base for f in models})
    return "there is: " + ", ".join(names[:20]) if names else None
