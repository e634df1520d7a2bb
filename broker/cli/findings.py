"""What ``doctor`` finds, one thing after another, and how it is told: a line each, and below it what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from broker.cli.tables import folded, plain
from broker.errors import BrokerError


class Level(StrEnum):
    """How it is with something."""

    OK = "ok"
    WARNING = "warning"
    """It works, and it will not for long, or not as somebody may think."""
    FAILED = "FAILED"
    SKIPPED = "skipped"
    """Nothing is known of it: the text says why."""


COLORS = {Level.OK: "32", Level.WARNING: "33", Level.FAILED: "31", Level.SKIPPED: "36"}
"""SGR parameters (ECMA-48): green, yellow, red, cyan."""

LEVEL_WIDTH = max(len(level) for level in Level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How it is with *place*: *text* says what was seen, *advice* what to do about it."""

    level: Level
    place: str
    text: str
    advice: str | None = None


def ok(place: str, text: str) -> Finding:
    """Give a finding that is good."""
    return Finding(level=Level.OK, place=place, text=text)


def warning(place: str, text: str, advice: str | None = None) -> Finding:
    """Give a finding that somebody should know of."""
    return Finding(level=Level.WARNING, place=place, text=text, advice=advice)


def failed(place: str, text: str, advice: str | None = None) -> Finding:
    """Give a finding that something does not work."""
    return Finding(level=Level.FAILED, place=place, text=text, advice=advice)


def skipped(place: str, text: str, advice: str | None = None) -> Finding:
    """Give a finding that nothing is known."""
    return Finding(level=Level.SKIPPED, place=place, text=text, advice=advice)


def of_error(place: str, error: BrokerError) -> Finding:
    """Give the finding that *error* is."""
    return failed(place, f"{error.message} [{error.code}]", error.hint)


def as_lines(findings: Iterable[Finding], *, colors: bool, width: int | None) -> list[str]:
    """Write each finding as a line, broken at *width* columns if there is one, and its advice below it."""
    room = None if width is None else width - LEVEL_WIDTH - 1
    lines: list[str] = []
    for finding in findings:
        level = finding.level.ljust(LEVEL_WIDTH)
        head = f"\x1b[{COLORS[finding.level]}m{level}\x1b[0m" if colors else level
        text = folded(f"{plain(finding.place)}: {plain(finding.text)}", room)
        advised = finding.advice is not None and finding.level is not Level.OK
        advice = folded(f"-> {plain(finding.advice or '')}", room) if advised else []
        lines.append(f"{head} {text[0]}")
        lines += [f"{'':{LEVEL_WIDTH}} {line}" for line in (*text[1:], *advice)]
    return lines


def as_json(findings: Iterable[Finding]) -> str:
    """Write all findings as one JSON object."""
    members = [
        {"level": finding.level.value.lower(), "place": finding.place, "text": finding.text, "advice": finding.advice}
        for finding in findings
    ]
    return json.dumps({"ok": all(member["level"] != "failed" for member in members), "findings": members}, indent=2)
