"""The models of a repository: its GGUF files, with the parts of a split as one and the vision projectors beside. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from hali.model import splits
from hali.model.names import ModelId, derive, name_all, words_of
from hali.model.quants import take_quant

# What llama.cpp's tools make by default first; a projector is small, so exactness counts more than size.
_PROJECTORS = ("F16", "BF16", "Q8_0", "F32")
_UNQUANTIZED = frozenset(("F16", "BF16", "F32"))


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
    def is_projector(self) -> bool:
        """True for the vision (or audio) half of a multimodal model: no model of its own."""
        return splits.is_projector(self.name)

    @property
    def is_model(self) -> bool:
        """True for GGUF files that hold a model or a part of one: no projector, no importance matrix, no impossible part."""
        if not self.is_gguf or self.is_projector:
            return False
        if "imatrix" in self.base.lower() and (self.quant is None or self.quant in _UNQUANTIZED):
            return (
                False  # an importance matrix, or that of a model of 16 bits; `-Q4_K_M-imatrix` is a model made with one
            )
        return self.part is None or splits.is_possible(self.part)

    @property
    def part(self) -> tuple[int, int] | None:
        """(2, 3) for `-00002-of-00003.gguf`; None for a whole file."""
        return splits.part_of(self.base)

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
    def models(self) -> tuple[GgufModel, ...]:
        """What a pull may choose from, smallest first."""
        return group(self.repo, self.files)


class GgufModel(msgspec.Struct, frozen=True):
    """One model of a repository: all it takes to run it."""

    id: ModelId
    files: tuple[RepoFile, ...]  # the parts in order; one for most models
    mmproj: tuple[RepoFile, ...] = ()  # its vision projectors, of which one is needed; the usual one first

    @property
    def name(self) -> str:
        """Path of the first file, by which it can be chosen."""
        return self.files[0].name

    @property
    def size(self) -> int:
        """Bytes of all parts that are there."""
        return sum(file.size for file in self.files)

    @property
    def quant(self) -> str | None:
        """As `RepoFile.quant`."""
        return self.files[0].quant

    @property
    def parts(self) -> int:
        """How many files it should have."""
        part = self.files[0].part
        return part[1] if part else 1

    @property
    def missing(self) -> str | None:
        """The first part that is not in the repository; None when all are."""
        have = {file.part[0] for file in self.files if file.part}
        first = next((n for n in range(1, self.parts + 1) if n not in have), None)
        if first is None or self.files[0].part is None:
            return None
        return splits.part_name(self.name, first)

    def with_projector(self) -> tuple[RepoFile, ...]:
        """All that it takes to run it, images included: the parts and the usual one of its projectors."""
        return self.files + self.mmproj[:1]

    def answers_to(self, quant: str) -> bool:
        """True when this is the quantization that a person means by `quant` (`q4_k_m`, `FP16`, `i1-Q4_K_M`)."""
        meant, rest = take_quant(quant)
        return meant is not None and not rest and (meant.type.upper() == self.quant or meant.label == self.id.quant)


def quant_of(name: str) -> str | None:
    """`a/Model-7B-UD-Q4_K_XL.gguf` → `UD-Q4_K_XL`; the last one in the file name, else in its folders, else None."""
    folder, _, base = splits.stem(name).rpartition("/")
    found = take_quant(base)[0] or take_quant(folder)[0]
    return found.type.upper() if found else None


def group(repo: str, files: Iterable[RepoFile]) -> tuple[GgufModel, ...]:
    """The models among the files of `repo`, smallest first; no two have one id, and every projector has a model."""
    files = tuple(files)
    sets = _sets(file for file in files if file.is_model)
    names = name_all([parts[0].name for parts in sets], repo)
    projectors = _projectors(sets, [file for file in files if file.is_projector])
    models = [GgufModel(names[parts[0].name], parts, projectors[parts[0].name]) for parts in sets]
    return tuple(sorted(models, key=lambda model: (model.size, model.name)))


def alone(repo: str, file: RepoFile) -> GgufModel:
    """A file chosen by its name, whatever it is."""
    return GgufModel(derive(file.name, repo=repo), (file,))


def _sets(files: Iterable[RepoFile]) -> list[tuple[RepoFile, ...]]:
    """Whole files by themselves, parts of one split together and in order. The folder is part of the name."""
    found: dict[str, list[RepoFile]] = defaultdict(list)
    for file in files:
        found[splits.part_name(file.name, 1)].append(file)
    return [tuple(sorted(parts, key=lambda file: file.part or (1, 1))) for parts in found.values()]


def _projectors(sets: list[tuple[RepoFile, ...]], every: list[RepoFile]) -> Mapping[str, tuple[RepoFile, ...]]:
    """By the name of a model's first file. A projector that names no model of the repository goes with all of them."""
    words = {parts[0].name: words_of(parts[0].name) for parts in sets}
    found: dict[str, tuple[RepoFile, ...]] = dict.fromkeys(words, ())
    for projector in sorted(every, key=_usual_first):
        wanted = words_of(projector.name)
        for name in [name for name, have in words.items() if wanted <= have] or words:
            found[name] += (projector,)
    return found


def _usual_first(projector: RepoFile) -> tuple[int, str]:
    quant = projector.quant
    return (_PROJECTORS.index(quant) if quant in _PROJECTORS else len(_PROJECTORS), projector.name)
