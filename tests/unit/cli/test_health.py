"""Tests of ``broker/cli/health.py``: what is asked, and what a probe gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from tests.unit.cli.canned import answer, canned

NOT_READY = {
    "error": "temporarily_unavailable",
    "error_description": "a required token cannot be served",
    "hint": "see the reasons",
}


@pytest.mark.parametrize(
    ("arguments", "route"),
    [
        ([], "/livez"),
        (["--ready"], "/readyz"),
        (["--ready", "directory"], "/readyz/directory"),
        (["--ready", "../livez"], "/readyz/..%2Flivez"),
    ],
    ids=["live", "ready", "one token", "a name that is none"],
)
def test_one_question_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], route: str):
    """A good answer is exit 0, and nothing is printed: the probe's log stays empty."""
    with canned(tmp_path / "s", answer({"status": "ok"})) as seen:
        code = main(["health", *arguments, "--socket", str(tmp_path / "s")])

    assert code == 0
    assert capsys.readouterr() == ("", "")
    assert [request.split(b" ")[:2] for request in seen] == [[b"GET", route.encode()]]


def test_a_no_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The hint is left out: it is in the log of the daemon, and this is in the events of a cluster."""
    with canned(tmp_path / "s", answer(NOT_READY, "503 Service Unavailable")):
        code = main(["health", "--ready", "--socket", str(tmp_path / "s")])

    assert code == 1
    assert capsys.readouterr() == ("", "a required token cannot be served [temporarily_unavailable]\n")


def test_a_no_of_somebody_else_s_cannot_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whoever took the place of the socket: one line, and no code that no broker has."""
    hostile = {"error": "\x1b[2J", "error_description": "a\nb \x1b]0;title\x07 \ud800"}
    with canned(tmp_path / "s", answer(hostile, "403 Forbidden")):
        main(["health", "--socket", str(tmp_path / "s")])

    assert capsys.readouterr().err == "a\ufffdb \ufffd]0;title\ufffd \ufffd [server_error]\n"


def test_where_nobody_serves_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A socket that is not there yet is what a start-up probe sees first."""
    code = main(["health", "--socket", str(tmp_path / "none")])

    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert captured.err == f"there is no socket at {tmp_path / 'none'} [daemon_unreachable]\n"


def test_another_server_is_not_taken_for_a_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """200 alone proves nothing."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    with canned(tmp_path / "s", raw):
        code = main(["health", "--socket", str(tmp_path / "s")])

    assert code == 1
    assert "[not_a_broker]" in capsys.readouterr().err


def test_a_socket_that_cannot_be_meant_is_told(capsys: pytest.CaptureFixture[str]):
    """Also in one line, whatever the command makes of it otherwise."""
    code = main(["health", "--socket", "tcp://127.0.0.1:1"])

    captured = capsys.readouterr()
    assert code == 1
    assert len(captured.err.splitlines()) == 1


def test_a_name_that_nobody_knows_and_a_reason_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What the daemon says of its routes is no answer to somebody who asked for a token."""
    unknown = {"error": "not_found", "error_description": "there is no such route"}
    with canned(tmp_path / "s", answer(unknown, "404 Not Found")):
        main(["health", "--ready", "nope", "--socket", str(tmp_path / "s")])
    with canned(tmp_path / "t", answer({**NOT_READY, "reason": "connect_failed"}, "503 Service Unavailable")):
        main(["health", "--ready", "main", "--socket", str(tmp_path / "t")])

    assert capsys.readouterr().err.splitlines() == [
        "there is no token nope, or it is not for you [not_found]",
        "a required token cannot be served: connect_failed [temporarily_unavailable]",
    ]


def test_a_file_that_is_no_socket_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As doctor does."""
    (tmp_path / "file").touch()

    main(["health", "--socket", str(tmp_path / "file")])

    assert capsys.readouterr().err == f"{tmp_path}/file is no socket [daemon_unreachable]\n"
