"""A bar chart as SVG: how many times faster hali is than each rival, on a logarithmic scale."""

from __future__ import annotations

import math
from html import escape

from bench.results import Row

LABEL, BAR, HEIGHT, TOP = 430, 420, 20, 48  # pixels
STYLE = "font:12px system-ui,sans-serif;fill:#222"


def chart(title: str, rows: list[Row], floor: float | None) -> str:
    """One bar a row; a line marks 1× (as fast as hali), another the floor."""
    most = max(4.0, *(row.high for row in rows))
    least = min(0.5, *(row.low for row in rows))

    def x(ratio: float) -> float:
        return LABEL + BAR * math.log(ratio / least) / math.log(most / least)

    height = TOP + HEIGHT * len(rows) + 12
    width = LABEL + BAR + 80
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" style="{STYLE};font-weight:600">{escape(title)}: times faster than each rival</text>',
        *_line(x(1.0), height, "#999", "1×"),
        *(_line(x(floor), height, "#c33", f"floor {floor:g}×") if floor else ()),
    ]
    for number, row in enumerate(rows):
        parts += _bar(row, TOP + HEIGHT * number, x)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _line(at: float, height: int, color: str, text: str) -> list[str]:
    return [
        f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{height - 6}" stroke="{color}" stroke-dasharray="3 3"/>',
        f'<text x="{at:.1f}" y="{TOP - 12}" style="{STYLE};fill:{color}" text-anchor="middle">{text}</text>',
    ]


def _bar(row: Row, y: int, x: object) -> list[str]:
    assert callable(x)
    start, end = sorted((x(1.0), x(row.ratio)))
    color = "#2a7" if row.ratio >= 1 else "#c33"
    middle = y + HEIGHT / 2
    return [
        f'<text x="{LABEL - 8}" y="{y + 14}" style="{STYLE}" text-anchor="end">{escape(f"{row.case} / {row.rival}")}</text>',
        f'<rect x="{start:.1f}" y="{y + 3}" width="{max(end - start, 1):.1f}" height="{HEIGHT - 6}" fill="{color}"/>',
        f'<line x1="{x(row.low):.1f}" y1="{middle}" x2="{x(row.high):.1f}" y2="{middle}" stroke="#000"/>',
        f'<text x="{x(row.high) + 6:.1f}" y="{y + 14}" style="{STYLE}">{row.ratio:.2f}×</text>',
    ]
