from __future__ import annotations

from dataclasses import replace

import pytest

from bench.measure import Phase, most_of_any, most_within, quantiles, table

PHASE = Phase(
    name="steady",
    seconds=10.0,
    requests=1_500,
    most_in_a_second=180,
    allowed=200,
    memory=100.0,
    processor=1.0,
    refreshed=1_500,
    failed=0,
    expired=0,
    answers=400,
    unserved=0,
    waits=(1.0, 2.0, 3.0),
)


@pytest.mark.parametrize(
    ("times", "most"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 0.5, 0.999, 1.0], 3),
        ([0.0, 1.0, 2.0], 1),
        ([3.0, 0.1, 3.1, 3.2, 0.2], 3),
        ([0.6, 0.7, 0.8, 1.2, 1.3, 1.4], 6),
    ],
    ids=["none", "one", "half open", "a second apart", "in any order", "across a full second"],
)
def test_the_most_in_a_second_is_found_in_any_window(times: list[float], most: int):
    """Not only in those that begin at a full second."""
    assert most_within(times) == most


def test_issuers_are_looked_at_one_by_one_and_a_phase_sees_what_came_right_before_it():
    """A limit is one of an issuer, and a burst across the beginning of a phase is a burst."""
    issuers = ([0.5, 0.9, 1.1, 1.2, 9.0], [1.0, 1.0])

    assert most_of_any(issuers, 1.0, 2.0) == 4
    assert most_of_any(issuers, 3.0, 10.0) == 1
    assert most_of_any((), 0.0, 1.0) == 0


def test_quantiles_are_those_of_what_was_measured():
    """The maximum is one that occurred; nothing measured is nothing."""
    assert quantiles([float(number) for number in range(1, 201)]) == (100.0, 198.0, 200.0)
    assert quantiles([7.0]) == (7.0, 7.0, 7.0)
    assert quantiles([]) == (0.0, 0.0, 0.0)


def test_a_table_has_a_row_for_each_phase_in_columns_of_one_width():
    """It is read in a terminal and in a page alike; processor time per refresh is empty where there were none."""
    down = replace(PHASE, name="server down", requests=0, refreshed=0)

    lines = table([PHASE, down]).splitlines()

    assert len({len(line) for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["steady", "server down"]
    assert "150.0" in lines[2]
    assert "0.67" in lines[2]
    assert lines[3].split("|")[7].strip() == ""


def test_the_report_holds_what_follows_from_the_figures():
    """Whoever reads the JSON need not compute it."""
    report = PHASE.as_json()

    assert report["requests_per_second"] == 150.0
    assert report["percent_of_a_core"] == 10.0
    assert report["processor_per_thousand_refreshes"] == pytest.approx(0.667)
