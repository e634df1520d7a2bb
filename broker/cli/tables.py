"""How commands write tables and sentences for a person: plain text, aligned, colored where a terminal has colors."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

NOTHING = "-"
"""A cell without a value."""

STATE_COLORS = {
    "fresh": "32",
    "stale": "33",
    "idle": "36",
    "pending": "36",
    "unavailable": "31",
    "consent_required": "35",
}
"""Of tokens and grants, as SGR parameters (ECMA-48): green, yellow, cyan, cyan, red, magenta."""

MIN_WIDTH = 40
"""Columns of a terminal from which on sentences are broken at its edge; a narrower one does it itself."""


HOURS_ONLY = 48
"""Hours from which on days are counted."""


def has_colors(variables: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Say whether standard output shows colors (https://no-color.org: any value but an empty one forbids them)."""
    return is_terminal and not variables.get("NO_COLOR") and variables.get("TERM", "dumb") != "dumb"


def table(rows: Sequence[Sequence[str]], *, column: int, colors: Mapping[str, str]) -> list[str]:
    """
    Align *rows*, the first of which are the headings.

    The cells of *column* get the color that *colors* has for their text, an SGR parameter (ECMA-48).
    """
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [_line(row, widths, column=column, color=colors.get(row[column])) for row in rows]


def _line(row: Sequence[str], widths: Sequence[int], *, column: int, color: str | None) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    line = "  ".join(cells).rstrip()
    if color is None:
        return line
    begin = sum(len(cell) + 2 for cell in cells[:column])
    end = begin + len(row[column])
    return f"{line[:begin]}\x1b[{color}m{line[begin:end]}\x1b[0m{line[end:]}"


def folded(line: str, width: int | None) -> list[str]:
    """Break a sentence between words; not where it would be a column of words."""
    if width is None or width < MIN_WIDTH:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def duration(seconds: int | None) -> str:
    """Write whole seconds with the two largest units that matter."""
    if seconds is None:
        return NOTHING
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= HOURS_ONLY:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plain(text: str) -> str:
    """Make *text* one line that cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
