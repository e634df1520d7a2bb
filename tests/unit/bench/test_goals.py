"""Figures beside their goals: what came of each, and what was not measured."""

from __future__ import annotations

from typing import Any

import pytest

from bench.goals import BUSY, Goal, goals, table


def goal(measured: float | None, **changes: Any) -> Goal:
    return Goal(**{"what": "x", "unit": "µs", "goal": 5.0, "stretch": 4.0, "measured": measured, **changes})


@pytest.mark.parametrize(
    ("measured", "least", "verdict"),
    [
        (None, True, "not measured"),
        (4.9, True, "missed"),
        (5.0, True, "met"),
        (7.0, True, "stretch met"),
        (5.1, False, "missed"),
        (5.0, False, "met"),
        (4.0, False, "stretch met"),
    ],
)
def test_a_figure_meets_its_goal_or_misses_it(measured: float | None, least: bool, verdict: str):
    """More is wanted of some, less of others."""
    stretch = 7.0 if least else 4.0

    assert goal(measured, stretch=stretch, least=least).verdict == verdict


def case(name: str, connections: int, meanwhile: str = "", *, agent: float | None = 1.6) -> dict[str, Any]:
    figures = {"per_second": 1.0, "p99": 90.0, "p999": 210.0, "processor": 6.0}
    nginx = {"per_second": 2.0, "p99": 40.0, "p999": 60.0, "processor": 4.0}
    return {
        "case": name,
        "connections": connections,
        "meanwhile": meanwhile,
        "of_nginx": 0.6,
        "of_agent": agent,
        "sides": {"broker": figures, "nginx": nginx},
    }


def test_each_goal_has_the_figure_that_it_is_about():
    """Those of nginx in the same run stand beside them."""
    cases = [
        case("kept connections", 8),
        case("kept connections", 64),
        case("a connection each", 8),
        case("kept connections", 8, BUSY),
    ]

    found = goals({"cases": cases}, {"refreshes": {"per_second": 2_600.0}})

    assert [one.measured for one in found] == [90.0, 210.0, 90.0, 210.0, 0.6, 0.6, 6.0, 0.6, 1.6, 2_600.0]
    assert [one.nginx for one in found] == [40.0, 60.0, 40.0, 60.0, None, None, 4.0, None, None, None]
    assert [one.verdict for one in found] == [
        *("stretch met", "stretch met", "missed", "missed", "missed", "met", "missed", "stretch met", "met", "met")
    ]


def test_what_was_not_measured_is_said():
    """A quick run has no ten thousand refreshes, and not every machine an oidc-agent."""
    cases = [case("kept connections", 8), case("kept connections", 64), case("a connection each", 8, agent=None)]

    found = goals({"cases": cases}, {"refreshes": {"per_second": 1.0}})

    assert [one.verdict for one in found].count("not measured") == 3
    assert "not measured" in table(found)


def test_the_table_writes_figures_as_they_are_read():
    """Ratios with two digits, microseconds without."""
    written = table([goal(0.254, stretch=None), goal(1_234.5), goal(5.0)])

    assert [row.split("|")[3].strip() for row in written.splitlines()[2:]] == ["0.25", "1,234", "5"]
