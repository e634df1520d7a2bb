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


MIN_NAME = 12
"""Columns in which the names of a table can be told apart."""

GAP = "  "
"""Between two columns of a table."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

HOURS_ONLY = 48
"""Hours from which on days are counted."""


def has_colors(variables: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Say whether standard output shows colors (https://no-color.org: any value but an empty one forbids them)."""
    return is_terminal and not variables.get("NO_COLOR") and variables.get("TERM", "dumb") != "dumb"


def cut(text: str, width: int) -> str:
    """Cut what is longer than *width* columns, so that it is seen that something is missing."""
    return text if len(text) <= width else text[: max(0, width - 1)] + ELLIPSIS[: max(0, width)]


def shortened(name: str, width: int) -> str:
    """Leave out the middle of what is longer than *width* columns: long names are told apart by their ends."""
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return cut(name, width - end) + name[len(name) - end :]


def fitted(rows: Sequence[Sequence[str]], width: int, *, dropped: Sequence[str]) -> list[list[str]]:
    """
    Make *rows*, the first of which are the headings, a table of *width* columns at most, as far as that goes.

    The columns in *dropped* go first, one after another, until the first column is left a width in which names can
    be told apart; then that one is shortened, and what is too long all the same is cut.
    """
    for count in range(len(dropped) + 1):
        kept = [index for index, heading in enumerate(rows[0]) if heading not in dropped[:count]]
        widths = [max(len(row[index]) for row in rows) for index in kept]
        room = width - sum(widths[1:]) - len(GAP) * (len(kept) - 1)
        if room >= (min(widths[0], MIN_NAME) if count else widths[0]):
            break
    widths[0] = min(widths[0], max(room, MIN_NAME))
    begins = [sum(widths[:index]) + len(GAP) * index for index in range(len(kept))]
    cells = [[shortened(row[kept[0]], widths[0]), *(row[index] for index in kept[1:])] for row in rows]
    return [[cut(cell, max(0, width - begin)) for cell, begin in zip(row, begins, strict=True)] for row in cells]


def table(rows: Sequence[Sequence[str]], *, column: int, colors: Mapping[str, str]) -> list[str]:
    """
    Align *rows*, the first of which are the headings.

    The cells of *column* get the color that *colors* has for their text, an SGR parameter (ECMA-48).
    """
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [_line(row, widths, column=column, color=colors.get(row[column])) for row in rows]


def _line(row: Sequence[str], widths: Sequence[int], *, column: int, color: str | None) -> str:
    cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    line = GAP.join(cells).rstrip()
    if color is None:
        return line
    begin = sum(len(cell) + len(GAP) for cell in cells[:column])
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
