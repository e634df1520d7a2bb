"""What is made of the runs of all sides."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.agent import WORDS
from bench.load import Came, Mode
from bench.serve import AGENT, FAST, NGINX, PLAIN, QUIET, Case, Compared, Measured, Side, summary, table

CASE = Case(name="kept connections", connections=8)


def measured(answers: int, *, processor: float = 0.5, p99: float = 50.0) -> Measured:
    came = Came(answers=answers, seconds=2.0, received=1, processor=0.1, p50=20.0, p99=p99, p999=2 * p99, max=4 * p99)
    return Measured(came=came, processor=processor)


def compared() -> Compared:
    runs = {
        FAST: (measured(100), measured(300), measured(200)),
        NGINX: (measured(200), measured(400), measured(1_000)),
        PLAIN: (measured(10), measured(10), measured(10)),
    }
    return Compared(case=CASE, runs=runs)


def test_a_ratio_is_the_median_of_those_of_the_rounds():
    """Both were measured within seconds in each."""
    one = compared()

    assert one.ratio(FAST, NGINX) == 0.5
    assert one.ratio(FAST, AGENT) is None


def test_a_summary_has_medians_and_the_processor_time_of_one_answer():
    """In microseconds."""
    found = summary([measured(100_000), measured(300_000, p99=70.0), measured(200_000, p99=90.0)])

    assert (found["per_second"], found["p99"], found["p999"], found["processor"]) == (100_000, 70.0, 140.0, 2.5)


def test_the_table_has_a_row_for_each_side():
    """Its ratio to nginx is that of the case for the broker."""
    rows = table([compared().as_json()]).splitlines()[2:]

    assert [row.split("|")[3].strip() for row in rows] == [FAST, NGINX, PLAIN]
    assert [row.split("|")[4].strip() for row in rows] == ["0.50", "1.00", "0.03"]


@pytest.mark.parametrize("case", QUIET, ids=lambda case: f"{case.name}, {case.connections}")
def test_each_side_is_asked_in_its_own_words(case: Case):
    """The one without HTTP has a connection for each request, whatever the others have."""
    asked = Side(name=FAST, socket=Path("s"), pids=(1,)).asking(case)
    agents = Side(name=AGENT, socket=Path("s"), pids=(1,), words=WORDS).asking(case)

    assert asked.head().startswith(b"GET /v1/tokens/t00000 HTTP/1.1\r\n")
    assert (b"Connection: close" in asked.head()) == (case.mode is Mode.NEW)
    assert (agents.head(), agents.mode) == (WORDS, Mode.RAW)
