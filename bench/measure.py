"""What is computed from what was measured, and the table that it makes: no clock and no process is looked at here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

WINDOW = 1.0
"""Seconds: the rate limit of an issuer is one for any second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """
    One phase of a run; times in seconds, memory in MB (10^6 bytes), waits of callers in milliseconds.

    *most_in_a_second* is that of the issuer that had most, in any window of a second. *processor* is the time that
    the broker used. *answers* counts the calls of a caller, *unserved* those that got no token; *instead* is what
    these got.
    """

    name: str
    seconds: float
    requests: int
    most_in_a_second: int
    allowed: int
    memory: float
    processor: float
    refreshed: int
    failed: int
    expired: int
    answers: int
    unserved: int
    waits: tuple[float, float, float]
    instead: Mapping[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Requests that the servers got in a second, on average."""
        return self.requests / self.seconds

    @property
    def per_thousand(self) -> float | None:
        """Processor time for a thousand refreshes; None where there were next to none."""
        return 1_000 * self.processor / self.refreshed if self.refreshed >= 100 else None

    @property
    def share(self) -> float:
        """Share of one core, in percent."""
        return 100 * self.processor / self.seconds

    def as_json(self) -> dict[str, Any]:
        """Give all of it, with what follows from it."""
        derived = {
            "requests_per_second": round(self.per_second, 1),
            "processor_per_thousand_refreshes": self.per_thousand and round(self.per_thousand, 3),
            "percent_of_a_core": round(self.share, 1),
        }
        return {**asdict(self), **derived}


def most_within(times: Iterable[float], seconds: float = WINDOW) -> int:
    """Give the most of *times* that fall into any window of *seconds*; two that are so far apart are not in one."""
    ordered, first, most = sorted(times), 0, 0
    for last, time in enumerate(ordered):
        while time - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_of_any(times: Iterable[Sequence[float]], begin: float, end: float) -> int:
    """Give the most that any issuer had in a window; windows that reach back before *begin* count whole."""
    return max(
        (most_within(time for time in issuer if begin - WINDOW < time <= end) for issuer in times),
        default=0,
    )


def quantiles(waits: Sequence[float]) -> tuple[float, float, float]:
    """Give median, 99th percentile and maximum; zeros for nothing."""
    if not waits:
        return 0.0, 0.0, 0.0
    ordered = sorted(waits)
    return tuple(ordered[min(len(ordered), math.ceil(len(ordered) * share)) - 1] for share in (0.5, 0.99, 1.0))  # type: ignore[return-value] # three shares, three values


HEADER = (
    "phase",
    "seconds",
    "req/s",
    "most in 1 s",
    "allowed",
    "RSS MB",
    "CPU s/1,000",
    "% of a core",
    "failed",
    "expired",
    "caller ms p50/p99/max",
    "unserved",
)


def table(phases: Sequence[Phase]) -> str:
    """Give a table in Markdown that is also easy to read as it is."""
    return columns([HEADER, *(_row(phase) for phase in phases)])


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Give *rows* as a table; the first are the names of the columns, of which all but the first hold figures."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(_cells(row, widths)) + " |" for row in rows]
    ruler = "| " + " | ".join(
        "-" * width if not column else "-" * (width - 1) + ":" for column, width in enumerate(widths)
    )
    return "\n".join([lines[0], ruler + " |", *lines[1:]])


def _cells(row: tuple[str, ...], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _row(phase: Phase) -> tuple[str, ...]:
    return (
        phase.name,
        f"{phase.seconds:.1f}",
        f"{phase.per_second:.1f}",
        str(phase.most_in_a_second),
        str(phase.allowed),
        f"{phase.memory:.0f}",
        "" if phase.per_thousand is None else f"{phase.per_thousand:.2f}",
        f"{phase.share:.1f}",
        str(phase.failed),
        str(phase.expired),
        "/".join(f"{wait:.1f}" for wait in phase.waits),
        f"{phase.unserved} of {phase.answers}",
    )
