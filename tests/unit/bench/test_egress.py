from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.egress import CASES, Case, Compared, Measured, main, summary, table
from bench.load import Asking, Came

CAME = Came(
    answers=1_000, seconds=2.0, received=1_200_000, processor=0.1, p50=900.0, p99=2_000.0, p999=3_000.0, max=5_000.0
)
RUN = Measured(came=CAME, processor=1.0, memory=70.0)
CASE = Case(name="1 kB down", method="GET", path="/small", connections=16, bytes=1_024, goal=0.5)


def runs(*answers: int) -> tuple[Measured, ...]:
    return tuple(replace(RUN, came=replace(CAME, answers=number)) for number in answers)


def test_a_ratio_is_the_median_of_pairs_that_were_measured_one_after_the_other():
    """The machine may be slower for a while: then it is for both sides of a pair, and the ratio stays."""
    compared = Compared(case=CASE, broker=runs(400, 40, 600), nginx=runs(1_000, 100, 1_000))

    assert compared.ratio == pytest.approx(0.4)


@pytest.mark.parametrize(("ours", "goal", "met"), [(499, 0.5, False), (500, 0.5, True), (1, None, None)])
def test_a_goal_is_met_missed_or_none(ours: int, goal: float | None, met: bool | None):
    """And a case without one is neither."""
    compared = Compared(case=replace(CASE, goal=goal), broker=runs(ours), nginx=runs(1_000))

    assert compared.is_met is met
    assert compared.as_json()["met"] is met


def test_a_summary_has_the_rates_and_costs_of_one_call():
    """Processor time is in microseconds for a call; memory is the most that there was."""
    fuller = replace(RUN, memory=90.0)

    figures = summary(replace(CASE, bytes=10_000_000), [RUN, fuller, RUN])

    assert figures["per_second"] == 500.0
    assert figures["megabytes_per_second"] == 5_000.0
    assert figures["processor_per_call"] == 1_000.0
    assert figures["percent_of_a_core"] == 50.0
    assert figures["memory"] == 90.0


def test_the_table_has_each_figure_beside_that_of_nginx_and_says_what_is_missed():
    """Whoever reads it need not compute, nor look for the goal elsewhere."""
    compared = Compared(case=CASE, broker=runs(200), nginx=runs(1_000)).as_json()

    row = [cell.strip() for cell in table([compared]).splitlines()[2].split("|")]

    assert row[1:5] == ["1 kB down", "16", "0.20", "0.5 missed"]
    assert row[5] == "100 / 500"


def test_a_call_sends_a_body_or_gets_one():
    """And says how long it is, so that neither side need use chunks."""
    down, up = (replace(CASE, method=method, bytes=7).asking("/v1/egress/api") for method in ("GET", "POST"))

    assert (down.target, down.body, down.answer) == ("/v1/egress/api/small", 0, 7)
    assert (up.body, up.answer) == (7, 0)
    assert b"Content-Length: 7\r\n" in up.head()
    assert b"Content-Length" not in down.head()


def test_a_head_is_that_of_a_small_client():
    """It ends in an empty line, and no connection is asked to end."""
    head = Asking(method="GET", target="/small", connections=1).head()

    assert head.startswith(b"GET /small HTTP/1.1\r\nHost: localhost\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert b"Connection" not in head


def test_the_goals_are_those_that_were_set():
    """Half of nginx for small calls at 16 connections, nine tenths for large ones."""
    goals = {(case.name, case.connections): case.goal for case in CASES}

    assert goals[("1 kB down", 16)] == 0.5
    assert {goal for (name, _), goal in goals.items() if name.startswith("10 MB")} == {0.9}


def test_what_is_not_known_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As by every command line."""
    with pytest.raises(SystemExit):
        main(["--slowly"])

    assert "--slowly" in capsys.readouterr().err
