"""
All that is measured of the way of a token from the broker to a caller, and each figure beside its goal.

    python -m bench.goals [--quick] [--json FILE] [--plot FILE] [--python INTERPRETER]

Runs ``bench.serve`` and ``bench.refreshes`` and ends with one table. The plot is an SVG image.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import refreshes, serve
from bench.measure import columns
from bench.plot import drawn
from bench.rig import GaveUpError

BUSY = "10,000 refreshes a minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """
    One line of the table: *measured* in *unit*, with *goal* and *stretch*, and what *nginx* came to in the same run.

    *least*: no less is wanted than the goal; else no more. None stands for what was not measured, or is not there.
    """

    what: str
    unit: str
    goal: float
    stretch: float | None
    measured: float | None
    nginx: float | None = None
    least: bool = True

    @property
    def verdict(self) -> str:
        """Say what came of it."""
        if self.measured is None:
            return "not measured"
        if self.stretch is not None and self._reaches(self.stretch):
            return "stretch met"
        return "met" if self._reaches(self.goal) else "missed"

    def _reaches(self, wanted: float) -> bool:
        assert self.measured is not None
        return self.measured >= wanted if self.least else self.measured <= wanted


def goals(served: dict[str, Any], refreshed: dict[str, Any]) -> list[Goal]:
    """Put the figures of two reports beside their goals."""

    def case(name: str, connections: int, meanwhile: str = "") -> dict[str, Any] | None:
        wanted = (name, connections, meanwhile)
        found = [one for one in served["cases"] if (one["case"], one["connections"], one["meanwhile"]) == wanted]
        return found[0] if found else None

    def figure(found: dict[str, Any] | None, side: str, name: str) -> float | None:
        return None if found is None else found["sides"][side][name]

    def ratio(found: dict[str, Any] | None, name: str) -> float | None:
        return None if found is None else found[name]

    def waits(what: str, found: dict[str, Any] | None, *wanted: tuple[str, float, float | None]) -> list[Goal]:
        return [
            Goal(
                what=f"{'p99' if name == 'p99' else 'p99.9'} at 8 connections, {what}",
                unit="µs",
                goal=goal,
                stretch=stretch,
                measured=figure(found, serve.FAST, name),
                nginx=figure(found, serve.NGINX, name),
                least=False,
            )
            for name, goal, stretch in wanted
        ]

    eight, many, new = case(serve.KEPT, 8), case(serve.KEPT, 64), case(serve.NEW, 8)
    return [
        *waits(BUSY, case(serve.KEPT, 8, BUSY), ("p99", 150, 100), ("p999", 400, 250)),
        *waits("quiet", eight, ("p99", 80, None), ("p999", 200, None)),
        Goal(what="64 kept connections", unit="of nginx", goal=0.75, stretch=1.0, measured=ratio(many, "of_nginx")),
        Goal(what="8 kept connections", unit="of nginx", goal=0.5, stretch=0.75, measured=ratio(eight, "of_nginx")),
        Goal(
            what="processor time of a token, 64 kept connections",
            unit="µs",
            goal=5,
            stretch=4,
            measured=figure(many, serve.FAST, "processor"),
            nginx=figure(many, serve.NGINX, "processor"),
            least=False,
        ),
        Goal(
            what="a connection each, 8 at a time",
            unit="of nginx",
            goal=0.3,
            stretch=0.5,
            measured=ratio(new, "of_nginx"),
        ),
        Goal(
            what="a connection each, 8 at a time",
            unit="of oidc-agent",
            goal=1.5,
            stretch=2,
            measured=ratio(new, "of_agent"),
        ),
        Goal(
            what="refreshes, durable, ES256, mutual TLS",
            unit="a second",
            goal=2_500,
            stretch=4_000,
            measured=refreshed["refreshes"]["per_second"],
        ),
    ]


HEADER = ("measure", "unit", "measured", "goal", "stretch", "nginx", "verdict")


def table(found: Sequence[Goal]) -> str:
    """Give the table."""
    return columns([HEADER, *(_row(goal) for goal in found)])


def _row(goal: Goal) -> tuple[str, ...]:
    def written(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f}" if value >= 20 else f"{value:.2f}".rstrip("0").rstrip(".")

    figures = (written(value) for value in (goal.measured, goal.goal, goal.stretch, goal.nginx))
    return (goal.what, goal.unit, *figures, goal.verdict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 2 if something that it needs is missing or does not work."""
    parser = argparse.ArgumentParser(prog="bench.goals", description="Measure what a token costs, beside the goals.")
    serve.add_options(parser)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures into FILE, an SVG image")
    wanted = parser.parse_args(arguments)
    times, grants = serve.Times(), refreshes.GRANTS
    if wanted.quick:
        times, grants = serve.QUICK_TIMES, refreshes.QUICK_GRANTS
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            served = serve.run(times, Path(directory), wanted.python, serve.told)
        refreshed = refreshes.report(grants, wanted.python, serve.told)
    except GaveUpError as error:
        print(f"bench.goals: {error}", file=sys.stderr)
        return 2
    found = goals(served, refreshed)
    print("\n\n".join((serve.page(served), refreshed["table"], table(found))))
    if wanted.json is not None:
        report = {"goals": [asdict(goal) | {"verdict": goal.verdict} for goal in found], "serve": served} | refreshed
        wanted.json.write_text(json.dumps(report, indent=2) + "\n")
    if wanted.plot is not None:
        wanted.plot.write_text(drawn(served["cases"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
