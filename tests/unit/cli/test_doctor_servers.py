"""Tests of ``broker/cli/doctor_servers.py``: clocks, and servers that are not there (tests/daemon asks real ones)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from broker.cli.doctor_case import Case
from broker.cli.doctor_servers import of_clocks, of_issuers
from broker.cli.findings import Level
from broker.cli.online import Asked
from broker.config.load import load_settings
from broker.config.settings import Settings
from tests.unit.cli.test_online import SERVER
from tests.unit.daemon.test_process import CONFIG

CASE = Case(daemons=(Path("/s"),), uid=0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "c").write_text(CONFIG)
    (tmp_path / "c").chmod(0o600)
    return load_settings(tmp_path / "c", credentials_directory=None)


@pytest.mark.parametrize(("ahead", "level"), [(0.0, Level.OK), (-15.0, Level.OK), (None, Level.SKIPPED)])
def test_a_clock_that_agrees_is_said_to_and_one_that_is_not_told_is_not_known(ahead: float | None, level: Level):
    """Of one that differs the issuer's findings speak."""
    (found,) = of_clocks({"a": Asked(server=SERVER, ahead=ahead)})

    assert found.level is level
    assert list(of_clocks({"a": Asked(server=SERVER, ahead=60.0)})) == []


def test_an_issuer_whose_ca_file_is_missing_fails_and_the_rest_goes_on(settings: Settings):
    """What to do is apart from what is wrong."""
    wanted = replace(settings.issuers["nobody"], ca_file=Path("/nowhere/ca.pem"))

    findings = list(of_issuers(CASE, replace(settings, issuers={"nobody": wanted})))

    assert (findings[0].place, findings[0].level) == ("issuer.nobody", Level.FAILED)
    assert "/nowhere/ca.pem" in findings[0].text
    assert findings[0].advice is not None
