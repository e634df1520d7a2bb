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


def test_a_token_can_be_had_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """By a request of its own, without a body."""
    with canned(tmp_path / "s", answer(TOKEN)) as seen:
        code = main(["token", "a", "--refresh", "--socket", str(tmp_path / "s")])

    captured = capsys.readouterr()
    assert (code, captured.out, captured.err) == (0, "opaque-token\n", "")
    assert seen[0].startswith(b"POST /v1/tokens/a/refresh HTTP/1.1\r\n")
    assert seen[0].endswith(b"\r\n\r\n")


def test_a_token_that_could_not_be_replaced_is_printed_with_a_word_about_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """It is good, only perhaps not where it was rejected."""
    with canned(tmp_path / "s", answer({**TOKEN, "stale": True})):
        code = main(["token", "a", "--refresh", "--socket", str(tmp_path / "s")])

    captured = capsys.readouterr()
    assert (code, captured.out) == (0, "opaque-token\n")
    assert "no other token could be had" in captured.err


@pytest.mark.parametrize("option", [["--wait", "5"], ["--min-valid", "5"]])
def test_wishes_that_a_refresh_has_not_are_a_mistake(option: list[str], capsys: pytest.CaptureFixture[str]):
    """Nothing is asked, and nothing printed that could be taken for a token."""
    code = main(["token", "a", "--refresh", *option, "--socket", "/nowhere"])

    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert "--refresh" in captured.err


def test_the_token_of_one_grant_can_be_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Where a token has a grant for each person, its name says too little."""
    with canned(tmp_path / "s", answer(TOKEN)) as seen:
        code = main(["token", "--grant", "g/1", "--wait", "3", "--socket", str(tmp_path / "s")])

    assert (code, capsys.readouterr().out) == (0, "opaque-token\n")
    assert seen[0].startswith(b"GET /v1/grants/g%2F1/token?wait=3 HTTP/1.1\r\n")


@pytest.mark.parametrize("arguments", [[], ["a", "--grant", "g"]])
def test_either_a_token_or_a_grant_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """Not both, and not neither."""
    with pytest.raises(SystemExit, match="2"):
        main(["token", *arguments])

    assert "--grant" in capsys.readouterr().err


def test_a_grant_is_not_refreshed_by_hand_here(capsys: pytest.CaptureFixture[str]):
    """There is no route for it."""
    assert main(["token", "--grant", "g", "--refresh"]) == 2
    assert "not with --grant" in capsys.readouterr().err
