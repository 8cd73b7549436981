"""How much of a prompt is computed at a time while others wait for their next tokens. Pure: times are given."""

from __future__ import annotations

STALL_S = 1.0  # how long a chunk may hold up the replies beside it
STEP = 32  # rows; also the least: below that ggml's work for a batch outweighs what it computes
WEIGHT = 0.3  # of the last batch in the mean


class Chunk:
    """Learns what a row costs, and says how many fit into `STALL_S`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._row_s: float | None = None

    def measure(self, rows: int, seconds: float) -> None:
        """A batch of `rows` took so long. Small ones tell of weights that were read, not of rows."""
        if rows < 2 * STEP:
            return
        row_s = seconds / rows
        self._row_s = row_s if self._row_s is None else (1 - WEIGHT) * self._row_s + WEIGHT * row_s

    @property
    def rows(self) -> int:
        """Of prompts in one batch beside replies; half of the most before anything is known."""
        if self._row_s is None:
            return self._most // 2
        fit = STALL_S / max(self._row_s, 1e-9)
        return int(min(max(fit // STEP * STEP, STEP), self._most))
