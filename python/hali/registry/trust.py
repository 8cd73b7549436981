"""The trust score of one entry, 0 to 100. Pure: all inputs are in the reply, so anybody can compute it again.

    score      = format + reputation + success + maturity
    format     = 10 for each of: torrent agrees, piece layers agree, GGUF header agrees
    reputation = 25 × (0.4 × min(1, publisher_days / 90) + 0.6 × wilson(publisher_ok, publisher_reports))
    success    = 30 × wilson(ok, reports)
    maturity   = 15 × min(1, days / 30)

`wilson(k, n)` is the lower bound of the 95 % Wilson interval (z = 1.96): few reports count little, however good they are. Reports
are of distinct reporters; those of the publisher's other entries make its reputation, so one entry cannot count twice.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

VERSION = "hali/trust1"
FORMULA = (
    "score = 10×torrent + 10×layers + 10×header"
    " + 25×(0.4×min(1, publisher_days/90) + 0.6×wilson(publisher_ok, publisher_reports))"
    " + 30×wilson(ok, reports) + 15×min(1, days/30);"
    " wilson(k, n) = lower bound of the Wilson interval, z = 1.96, 0 for n = 0"
)
VISIBLE = 30  # what a well-formed GGUF of an unknown publisher gets on its first day (sharing.md)
Z = 1.96  # 95 %
FORMAT_EACH, REPUTATION, SUCCESS, MATURITY = 10.0, 25.0, 30.0, 15.0
PUBLISHER_DAYS = 90.0  # a season: longer than a throw-away key is usually kept
ENTRY_DAYS = 30.0  # most broken uploads are reported within days


class Inputs(msgspec.Struct, frozen=True):
    """Everything that the score depends on."""

    torrent: bool  # the .torrent is here; infohashes, file names and sizes, recomputed, are the manifest's
    layers: bool  # its piece hashes have the right number, and the v2 layer hashes up to the file's root
    header: bool  # the file's first block, proven by the v2 root, is a GGUF header that does not contradict the name
    publisher_days: float  # since the key (or the oldest it succeeded) was first seen
    publisher_ok: int  # distinct (reporter, entry) pairs of the publisher's other entries that succeeded …
    publisher_reports: int  # … of so many
    ok: int  # distinct reporters of this entry that succeeded …
    reports: int  # … of so many
    days: float  # since the entry was first published


def wilson(k: int, n: int) -> float:
    """Lower bound of the 95 % Wilson score interval for `k` successes of `n`; 0 for no trials."""
    if n <= 0:
        return 0.0
    p, zz = k / n, Z * Z
    centre = p + zz / (2 * n)
    spread = Z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + zz / n))


def parts(inputs: Inputs) -> dict[str, float]:
    """The four terms, in points."""
    age = min(1.0, max(0.0, inputs.publisher_days) / PUBLISHER_DAYS)
    record = wilson(inputs.publisher_ok, inputs.publisher_reports)
    return {
        "format": FORMAT_EACH * (inputs.torrent + inputs.layers + inputs.header),
        "reputation": REPUTATION * (0.4 * age + 0.6 * record),
        "success": SUCCESS * wilson(inputs.ok, inputs.reports),
        "maturity": MATURITY * min(1.0, max(0.0, inputs.days) / ENTRY_DAYS),
    }


def score(inputs: Inputs) -> float:
    """0 to 100."""
    return min(100.0, math.fsum(parts(inputs).values()))


def describe(inputs: Inputs) -> dict[str, Any]:
    """As the replies carry it: score, its parts, all inputs, formula and version."""
    return {
        "score": round(score(inputs), 2),
        "version": VERSION,
        "formula": FORMULA,
        "parts": {name: round(value, 2) for name, value in parts(inputs).items()},
        "inputs": msgspec.to_builtins(inputs),
    }
