"""`base:size:variant:quant`, a name for people; the SHA-256 is the identity, and a name may fit several files.

Words that tell two models apart (versions, *coder*) are never dropped: what is neither size nor quant stays in base (before the
size) or variant (after it). Two files of one repository never share a name (`name_all`); the same quant of the same model from two
repositories may.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import msgspec

from hali.model.filenames import unsafe
from hali.model.quants import Quant, take_quant

# 7b, 1.1b, 0_5b, 8x7b, 7bx2, 30b-a3b, 17b-16e, 1b-7b, e4b, a2.7b, 135m, 1t. Not 128k: that is a context.
_NUMBER = r"(?:(?<=-)\d+_\d+|\d+(?:\.\d+)?)"
_SIZE = re.compile(
    rf"(?<![a-z0-9])(?<!\d[._])((?:\d+x)?[ea]?{_NUMBER}(?:b(?:x\d+)?(?:-a{_NUMBER}[bm]|-\d+e|-{_NUMBER}b)?|[mt]))(?![a-z0-9])",
    re.ASCII,
)
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\Z", re.ASCII)
_TUNED = re.compile(r"[-_.](?=(?:instruct|chat|it|thinking)(?![a-z0-9]))", re.ASCII)
_PACKAGING = re.compile(r"(?:^|[-_.])(?:gguf|ggml|i1|iq|imat|imatrix|quants|quantized)(?=[-_.]|\Z)", re.ASCII)
_UNSAFE = re.compile(r"[^a-z0-9._+-]+")
_BETWEEN = re.compile(r"[-_\s/]+|\.(?!\d)|(?<!\d)\.")  # a dot between digits is a version
_EDGES = "-._ "
UNKNOWN = "unknown"  # a size or quant that neither the name nor the header tells
PLAIN = "base"  # the variant of a model whose name has no word after its size
MAX_PART = 80  # keeps the path of a model below the 255 bytes a file name may have
TAG = 8  # hex digits that tell apart what would else have one name; the number of such files is tiny

# Words of files that name no model: then the repository's name does.
_GENERIC = {"", "ggml", "gguf", "model", "models", "main", "mmproj", "unsloth", "weights"}


class ModelId(msgspec.Struct, frozen=True):
    """The four parts; each is lower case, not empty, and safe as a path component."""

    base: str
    size: str
    variant: str
    quant: str

    def __str__(self) -> str:
        return f"{self.base}:{self.size}:{self.variant}:{self.quant}"


class _Title(msgspec.Struct, frozen=True):
    """The name of a model without its quant, taken apart at the size."""

    before: str
    size: str | None
    after: str


def derive(
    path: str, *, repo: str | None = None, size_label: str | None = None, quant_hint: str | None = None
) -> ModelId:
    """The id of a file by its name, folders and repository; the GGUF header's size label and file type fill what these lack.

    A split is one model: all its parts have one id.
    """
    folder, _, file = path.rpartition("/")
    quant, own = take_quant(_stem(file))
    text = _most_telling(own, repo)
    title = _filled(_take_apart(text), repo)
    aside = [word for word in _words(take_quant(folder)[1]) if word not in _words(text)]
    after = "-".join(filter(None, (title.after, *aside)))
    return ModelId(
        base=_clean(title.before if after != PLAIN else f"{title.before.rstrip(_EDGES)}-{PLAIN}", "model"),
        size=_clean(title.size or size_label or "", UNKNOWN),
        variant=_clean(after, PLAIN),
        quant=_clean(_label(quant, folder) or quant_hint or "", UNKNOWN),
    )


def name_all(paths: Iterable[str], repo: str) -> dict[str, ModelId]:
    """The ids of files of one repository (one part of each split), no two the same."""
    names = {path: derive(path, repo=repo) for path in paths}
    names |= {path: derive(path) for path in _sharing(names)}  # then it was the file's name that told them apart
    return names | {path: _tagged(names[path], path) for path in _sharing(names)}


def _sharing(names: dict[str, ModelId]) -> list[str]:
    often = Counter(names.values())
    return [path for path, name in names.items() if often[name] > 1]


def _tagged(name: ModelId, path: str) -> ModelId:
    return msgspec.structs.replace(name, variant=_cut(name.variant, path, MAX_PART))


def _stem(file: str) -> str:
    return _SPLIT.sub("", re.sub(r"(?i)\.gguf\Z", "", file))


def _label(quant: Quant | None, folder: str) -> str | None:
    """`Q6_K/model.gguf`: where the file says nothing its folder does."""
    found = quant or take_quant(folder)[0]
    return found.label if found else None


def _of_repository(repo: str) -> str:
    """`unsloth/Qwen3-8B-GGUF` → `qwen3-8b`: without owner, quant and words about the packaging."""
    return _PACKAGING.sub("", take_quant(repo.rpartition("/")[2])[1]).strip(_EDGES)


def _most_telling(own: str, repo: str | None) -> str:
    """The repository's name where it says all that the file's says, and more: google's `…-qat-q4_0-gguf/gemma-3-4b-it-q4_0.gguf`."""
    whole = _of_repository(repo) if repo else ""
    words, more = set(_words(own)), set(_words(whole))
    if not whole or not words < more or _sizes_differ(own, whole):
        return own
    return f"mmproj-{whole}" if "mmproj" in own else whole


def _filled(title: _Title, repo: str | None) -> _Title:
    """What the file does not say at all, the repository may: `gemma-1.1-7b-it-GGUF/7b_it_v1p1.gguf`."""
    if repo is None:
        return title
    whole = _take_apart(_of_repository(repo))
    named = _words(title.before) or not _words(whole.before)
    return msgspec.structs.replace(title, before=title.before if named else whole.before, size=title.size or whole.size)


def _sizes_differ(own: str, whole: str) -> bool:
    """A repository of several sizes is named after all of them."""
    size = _take_apart(own).size
    return size is not None and [size] != [_size(found) for found in _SIZE.finditer(whole)]


def words_of(path: str) -> set[str]:
    """The words of a file's name that name a model: without folders, quant, and words that name none."""
    return set(_words(take_quant(_stem(path.rpartition("/")[2]))[1]))


def _words(text: str) -> list[str]:
    return [word for part in _BETWEEN.split(text.lower()) if (word := part.strip(_EDGES)) not in _GENERIC]


def _take_apart(text: str) -> _Title:
    sizes = list(_SIZE.finditer(text))
    if sizes:
        # Billions are parameters; millions and trillions may be so, or a context (7B-1M) or training tokens (2B-4T).
        found = ([s for s in sizes if "b" in s[1]] or sizes)[-1]
        return _Title(text[: found.start()], _size(found), text[found.end() :].strip(_EDGES))
    tuned = _TUNED.search(text)
    return _Title(text[: tuned.start()], None, text[tuned.end() :]) if tuned else _Title(text, None, "")


def _size(found: re.Match[str]) -> str:
    return found[1].replace("_", ".")


def _clean(text: str, fallback: str) -> str:
    cleaned = _UNSAFE.sub("-", text.lower()).strip(_EDGES)
    if cleaned and unsafe(cleaned[:MAX_PART].rstrip(_EDGES)):
        cleaned = f"x-{cleaned}"  # `con`, `nul.v2`: devices on Windows
    return (_cut(cleaned, cleaned, MAX_PART) if len(cleaned) > MAX_PART else cleaned) or fallback


def _cut(text: str, of: str, room: int) -> str:
    """`text` shortened, with a tag of what it stands for."""
    import hashlib  # loads OpenSSL, which commands that only read a name shall not wait for

    tag = hashlib.sha256(of.encode("utf-8", "surrogatepass")).hexdigest()[:TAG]
    return f"{text[: room - TAG - 1].strip(_EDGES)}-{tag}"


def parse(text: str) -> ModelId | None:
    """The id written as `base:size:variant:quant`, or None when `text` is something else."""
    parts = text.lower().split(":")
    if len(parts) != 4 or not all(part and _clean(part, "") == part for part in parts):
        return None
    return ModelId(*parts)


def names_part_of(wanted: str, model_id: str) -> bool:
    """`smollm2`, `smollm2:135m` or `smollm2:q4_1`: the base, then any of the other parts in order."""
    parts, have = wanted.split(":"), model_id.split(":")
    if not wanted or parts[0] != have[0]:
        return False
    rest = iter(have[1:])
    return all(part in rest for part in parts[1:])
