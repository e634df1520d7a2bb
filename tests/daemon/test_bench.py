"""The programs of the benchmarks work: all is measured, and what they say of it is so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench import egress, footprint, goals, serve
from bench.nginx import program
from bench.rig import GaveUpError
from bench.tokens import QUICK, main

PHASES = ["start", "steady", "server down", "server back", "scrape", "readiness", "reload"]


def need_nginx_and_compiler() -> None:
    """Skip the test where there is nothing to compare with, or no load."""
    try:
        program()
    except GaveUpError as error:
        pytest.skip(str(error))
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (Debian: apt-get install gcc libc6-dev)")


def test_a_quick_run_measures_every_phase(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All tokens come, the server is missed and found again, and no second of an issuer has more than its rate."""
    report_file = tmp_path / "report.json"

    code = main(["--quick", "--json", str(report_file)])

    report = json.loads(report_file.read_text())
    phases = {phase["name"]: phase for phase in report["phases"]}
    assert code == 0
    assert list(phases) == PHASES
    assert all(0 <= phase["most_in_a_second"] <= QUICK.rate for phase in phases.values())
    assert phases["start"]["requests"] >= phases["start"]["refreshed"] >= QUICK.tokens
    assert phases["start"]["processor"] > 0 < phases["start"]["memory"]
    assert phases["server down"]["requests"] <= QUICK.rate  # until it was down
    assert phases["steady"]["answers"] > 0 == phases["steady"]["unserved"]
    assert report["facts"]["scrape_bytes"] > 100 * QUICK.tokens
    assert report["table"] in capsys.readouterr().out


def test_a_quick_run_compares_every_kind_of_call_with_nginx(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Both sides answer each call, and all that is said of them was measured."""
    need_nginx_and_compiler()
    report_file = tmp_path / "report.json"

    code = egress.main(["--quick", "--json", str(report_file)])

    report = json.loads(report_file.read_text())
    assert code == 0
    assert [(case["name"], case["connections"]) for case in report["cases"]] == [
        (case.name, case.connections) for case in egress.CASES
    ]
    for case in report["cases"]:
        assert case["ratio"] > 0
        for side in ("broker", "nginx"):
            assert case[side]["per_second"] > 0 < case[side]["memory"]
            assert 0 < case[side]["p50"] <= case[side]["p99"]
    assert report["table"] in capsys.readouterr().out


def test_a_quick_run_puts_each_figure_beside_its_goal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A real broker is started; there is no such image, and that is said and no failure."""
    report_file = tmp_path / "report.json"

    code = footprint.main(["--quick", "--image", "localhost/nobody-built-this:none", "--json", str(report_file)])

    figures = json.loads(report_file.read_text())["figures"]
    start, processor, one, many, image = figures
    assert code == 0
    assert start["measured"] >= processor["measured"] > 50
    assert 30 < one["measured"] <= many["measured"] + 1
    assert image["measured"] is None
    assert capsys.readouterr().out.count(" MB ") >= 3


def test_a_quick_run_ends_with_a_table_of_goals(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """All sides were asked, all grants were refreshed, and the plot is there."""
    need_nginx_and_compiler()
    report_file, plot = tmp_path / "report.json", tmp_path / "plot.svg"

    code = goals.main(["--quick", "--json", str(report_file), "--plot", str(plot)])

    report = json.loads(report_file.read_text())
    cases = report["serve"]["cases"]
    assert code == 0
    assert [(case["case"], case["connections"]) for case in cases] == [
        (case.name, case.connections) for case in (*serve.QUIET, *serve.BUSY)
    ]
    for case in cases:
        for figures in case["sides"].values():
            assert figures["per_second"] > 0
            assert 0 < figures["p50"] <= figures["p99"] <= figures["p999"]
    assert cases[-1]["refreshes_per_second"] > 1
    assert report["refreshes"]["failed"] == 0 < report["refreshes"]["per_second"]
    assert {goal["verdict"] for goal in report["goals"]} <= {"stretch met", "met", "missed", "not measured"}
    assert plot.read_text().startswith("<svg ")
    assert "verdict" in capsys.readouterr().out
