from __future__ import annotations

import pytest

from broker.cli.exits import explain
from broker.errors import LocalError


def test_an_error_is_told_with_its_code_and_its_remedy(capsys: pytest.CaptureFixture[str]):
    """Two lines on standard error, none on standard output."""
    explain(LocalError("file_missing", "there is no file /x", hint="make one"))

    captured = capsys.readouterr()
    assert captured.err == "there is no file /x [file_missing]\n  make one\n"
    assert captured.out == ""


def test_without_a_hint_it_is_one_line(capsys: pytest.CaptureFixture[str]):
    """No empty line where there is nothing to do."""
    explain(LocalError("x", "y"))

    assert capsys.readouterr().err == "y [x]\n"


def test_what_is_told_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]):
    """A path in it may be anything; the lines of a hint stay lines."""
    explain(LocalError("x", "no \x1b[2J\nat all", hint="look:\n  \x1b]0;title\x07"))

    assert capsys.readouterr().err == "no \ufffd[2J\ufffdat all [x]\n  look:\n  \ufffd]0;title\ufffd\n"
