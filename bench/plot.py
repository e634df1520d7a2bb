"""
The plot of ``bench.goals``: what the sides came to in proportion to nginx, and how long their answers took.

SVG without a library, in words and rectangles that a screen reader and a dark page can do something with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

COLORS = {"broker": "#0969da", "broker, plain": "#8250df", "nginx": "#6e7781", "oidc-agent": "#bf8700"}
"""Readable on white and on black."""

WIDTH, LABEL, BAR, GAP = 860, 350, 12, 14
"""Pixels: of the image, of what stands at the left, of the height of a bar, and between two cases."""

TICKS = (10, 100, 1_000, 10_000, 100_000)
"""Microseconds."""

STYLE = (
    "text{font:12px sans-serif;fill:#57606a}.head{font-weight:bold;font-size:14px}.axis{stroke:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#c9d1d9}.axis{stroke:#30363d}}"
)


def drawn(cases: Sequence[dict[str, Any]]) -> str:
    """Give the image of the *cases* of a report of ``bench.serve``."""
    rates, height = _rates(cases, 40)
    waits, bottom = _waits(cases, height + 50)
    title = "Tokens from the broker beside a constant from nginx: rate in proportion to nginx, and latency"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" role="img">'
    return "\n".join(
        [
            head,
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            *_legend(bottom + 24),
            *rates,
            *waits,
            "</svg>",
            "",
        ]
    )


def _rates(cases: Sequence[dict[str, Any]], top: int) -> tuple[list[str], int]:
    """Draw a bar for each side of each case that goes as fast as it can."""
    lines = [_text(0, top - 16, "Answers a second, in proportion to nginx", "head")]
    scale = (WIDTH - LABEL - 60) / 1.2
    for case in (case for case in cases if " a second" not in case["case"]):
        lines.append(_text(0, top + BAR - 2, _label(case)))
        reference = case["sides"]["nginx"]["per_second"]
        for side, figures in case["sides"].items():
            ratio = case["of_nginx"] if side == "broker" else figures["per_second"] / reference
            lines.append(_bar(LABEL, top, min(ratio, 1.2) * scale, side))
            lines.append(_text(LABEL + min(ratio, 1.2) * scale + 6, top + BAR - 2, f"{ratio:.2f}"))
            top += BAR + 2
        top += GAP
    return lines, top


def _waits(cases: Sequence[dict[str, Any]], top: int) -> tuple[list[str], int]:
    """Draw a line from the median to the 99.9th percentile, with the 99th as a dot, on a logarithmic axis."""
    lines = [_text(0, top - 16, "Latency in µs: median, 99 %, 99.9 %, at 8 connections", "head")]
    begin, rows = top, []
    for case in (case for case in cases if case["connections"] == 8):
        rows.append(_text(0, top + BAR - 2, _label(case)))
        for side, figures in case["sides"].items():
            low, dot, high = (_place(figures[name]) for name in ("p50", "p99", "p999"))
            rows.append(_bar(low, top + 4, max(2.0, high - low), side, height=4))
            rows.append(f'<circle cx="{dot:.1f}" cy="{top + 6}" r="4" fill="{COLORS[side]}"/>')
            top += BAR + 2
        top += GAP
    for tick in TICKS:
        place = _place(tick)
        lines.append(f'<path class="axis" d="M{place:.1f} {begin - 6}V{top}"/>')
        lines.append(_text(place - 8, top + 12, f"{tick:,}"))
    return [*lines, *rows], top + 16


def _place(microseconds: float) -> float:
    share = math.log(min(max(microseconds, TICKS[0]), TICKS[-1]) / TICKS[0]) / math.log(TICKS[-1] / TICKS[0])
    return LABEL + share * (WIDTH - LABEL - 60)


def _label(case: dict[str, Any]) -> str:
    meanwhile = f", {case['meanwhile']}" if case["meanwhile"] else ""
    return f"{case['case']}, {case['connections']}{meanwhile}"


def _legend(top: int) -> list[str]:
    lines = []
    for number, (side, color) in enumerate(COLORS.items()):
        left = 210 * number
        lines.append(f'<rect x="{left}" y="{top - 10}" width="12" height="12" fill="{color}"/>')
        lines.append(_text(left + 18, top, "broker without the fast path" if side == "broker, plain" else side))
    return lines


def _bar(left: float, top: float, width: float, side: str, *, height: int = BAR) -> str:
    return f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" fill="{COLORS[side]}"/>'


def _text(left: float, top: float, words: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{left:.1f}" y="{top}"{named}>{escape(words)}</text>'
