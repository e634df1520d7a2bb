from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from tests.unit.cli.canned import TOKEN, answer, canned


def test_the_bare_token_is_all_of_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """So that it can stand in a command substitution."""
    with canned(tmp_path / "s", answer(TOKEN)):
        code = main(["token", "a", "--socket", str(tmp_path / "s")])

    assert (code, capsys.readouterr().out) == (0, "opaque-token\n")


def test_a_whole_header_can_be_piped_into_curl(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """curl -H @- keeps the token out of the process table."""
    with canned(tmp_path / "s", answer(TOKEN)):
        main(["token", "a", "--header", "--socket", f"unix://{tmp_path}/s"])

    assert capsys.readouterr().out == "Authorization: Bearer opaque-token\n"


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No traceback, nothing on standard output."""
    body = {"error": "temporarily_unavailable", "error_description": "there is no valid token now"}
    with canned(tmp_path / "s", answer(body, "503 Service Unavailable")):
        code = main(["token", "a", "--socket", str(tmp_path / "s")])

    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert captured.err == "there is no valid token now [temporarily_unavailable]\n"
