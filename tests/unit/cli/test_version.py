from __future__ import annotations

import pytest

from broker import __version__
from broker.cli import main


def test_it_tells_what_a_report_of_a_problem_needs(capsys: pytest.CaptureFixture[str]):
    """Our version, Python's, OpenSSL's and those of the packages."""
    assert main(["version"]) == 0

    out = capsys.readouterr().out
    assert f"token-broker {__version__}" in out
    assert "OpenSSL" in out
    assert "aiohttp " in out
