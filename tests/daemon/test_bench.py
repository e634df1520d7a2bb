"""The program of the benchmark works: every phase is measured, and what it says of the rate is so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.tokens import QUICK, main

PHASES = ["start", "steady", "server down", "server back", "scrape", "readiness", "reload"]


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
