"""How many cells of the KV cache sequences take that share the cells of common beginnings. Pure."""

from __future__ import annotations

import itertools


class Cells:
    """Mirrors what llama.cpp holds: a cell is taken until the last sequence that has it lets go."""

    def __init__(self) -> None:
        self._of: dict[int, list[int]] = {}  # cells of a sequence, by position
        self._holders: dict[int, int] = {}  # sequences that have a cell
        self._new = itertools.count()

    @property
    def used(self) -> int:
        """Cells that are taken."""
        return len(self._holders)

    def own(self, key: int) -> int:
        """Cells that come free when `key` lets go of all it has."""
        return sum(self._holders[cell] == 1 for cell in self._of.get(key, ()))

    def resize(self, key: int, length: int) -> None:
        """`key` has `length` positions now: it got new cells, or let go of its last ones."""
        cells = self._of.setdefault(key, [])
        for cell in itertools.islice(self._new, max(0, length - len(cells))):
            cells.append(cell)
            self._holders[cell] = 1
        for cell in cells[length:]:
            self._holders[cell] -= 1
            if not self._holders[cell]:
                del self._holders[cell]
        del cells[length:]

    def share(self, source: int, key: int, length: int) -> None:
        """`key`, which has none, gets the first `length` cells of `source` too."""
        self._of[key] = self._of[source][:length]
        for cell in self._of[key]:
            self._holders[cell] += 1
