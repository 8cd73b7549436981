"""The files of one model as their names tell them: the parts of a GGUF split, and the projector of a multimodal model. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})(\.gguf)\Z", re.IGNORECASE | re.ASCII)
_GGUF = re.compile(r"\.gguf\Z", re.IGNORECASE)


def part_of(name: str) -> tuple[int, int] | None:
    """(2, 3) for `-00002-of-00003.gguf`; None for a whole file."""
    found = _SPLIT.search(name)
    return (int(found[1]), int(found[2])) if found else None


def is_possible(part: tuple[int, int]) -> bool:
    """False for numbers that no split has: the part 4 of 3, or 0 of 0."""
    return 1 <= part[0] <= part[1]


def part_name(name: str, number: int) -> str:
    """The name of part `number` of the split that `name` is a part of; of a whole file, itself."""
    return _SPLIT.sub(rf"-{number:05}-of-\2\3", name)


def part_names(name: str) -> list[str]:
    """The names of all parts of the split that `name` is a part of, in order; of a whole file or an impossible part, itself."""
    return list(_names(name))


def _names(name: str) -> Iterator[str]:
    part = part_of(name)
    if part is None or not is_possible(part):
        yield name
        return
    for number in range(1, part[1] + 1):
        yield part_name(name, number)


def parts_beside(path: Path) -> list[Path]:
    """The paths of all parts of the split that `path` is a part of, whether they exist or not."""
    return list(each_part_beside(path))


def each_part_beside(path: Path) -> Iterator[Path]:
    """As `parts_beside`, one by one: a name may promise 99,999 parts of which none is there."""
    return map(path.with_name, _names(path.name))


def stem(name: str) -> str:
    """`Model-Q4_K_M` for each part of that model, and for the whole file."""
    return _GGUF.sub("", _SPLIT.sub("", name))


def is_projector(name: str) -> bool:
    """True for the vision (or audio) half of a multimodal model: no model of its own."""
    return _GGUF.search(name) is not None and "mmproj" in name.rpartition("/")[2].lower()


def main_first(names: Iterable[str]) -> list[str]:
    """The file that is opened to run the model, then the others, in the order of BEP 52 (names by their bytes)."""
    ordered = in_order(names)
    return sorted(ordered, key=lambda name: (is_projector(name), _GGUF.search(name) is None))


def in_order(names: Iterable[str]) -> list[str]:
    """The order of files in a torrent (BEP 52: the keys of a bencoded dictionary), and so in a model's identity."""
    return sorted(names, key=str.encode)
