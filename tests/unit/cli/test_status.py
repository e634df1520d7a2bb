"""Tests of ``broker/cli/status.py``: the states as they are, for people and for scripts."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.local_client import Status, TokenState
from broker.cli.status_view import as_json, as_table
from tests.unit.cli.canned import answer, canned

LISTED = {
    "tokens": [
        {"name": "directory", "state": "fresh", "expires_in": 287, "retry_in": 200},
        {"name": "ledger", "state": "unavailable", "reason": "connect_failed", "retry_in": 4, "hint": "is it up?"},
    ]
}

READY = {"status": "ready", "tokens": {"directory": {"state": "fresh", "required": True}}, "sandbox": ["box"]}

NOT_READY = {
    "error": "temporarily_unavailable",
    "status": "not_ready",
    "tokens": {"ledger": {"state": "unavailable", "required": True}},
}


@contextmanager
def daemon(path: Path, answers: Mapping[str, bytes]) -> Iterator[None]:
    """Answer each path with bytes of its own, until the end of the context."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65_536)
                if request:  # who only wants to know who listens sends none
                    connection.sendall(answers[request.split(b" ")[1].decode()])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def token(name: str = "a", state: str = "fresh", hint: str | None = None, expires_in: int | None = 5) -> TokenState:
    return TokenState(
        name=name, state=state, required=True, expires_in=expires_in, retry_in=None, reason=None, hint=hint
    )


def status(*tokens: TokenState) -> Status:
    return Status(ready=True, tokens=tokens, sandboxes=())


def test_a_ready_daemon_is_exit_0_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """No escape sequences where standard output is not a terminal."""
    answers = {"/v1/tokens": answer(LISTED), "/readyz": answer(READY)}
    with daemon(tmp_path / "s", answers):
        code = main(["status", "--socket", str(tmp_path / "s")])

    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    assert captured.out.splitlines() == [
        "TOKEN      STATE        REQUIRED  EXPIRES IN  NEXT TRY IN  REASON",
        "directory  fresh        yes       4 min 47 s  3 min 20 s   -",
        "ledger     unavailable  -         -           4 s          connect_failed",
        "ledger: is it up?",
        "SANDBOX, tokens worth nothing: box",
        "ready",
    ]


def test_a_daemon_that_is_not_ready_is_exit_1_with_all_it_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A 503 of /readyz is an answer, not a failure."""
    answers = {"/v1/tokens": answer(LISTED), "/readyz": answer(NOT_READY, "503 Service Unavailable")}
    with daemon(tmp_path / "s", answers):
        code = main(["status", "--json", "--socket", str(tmp_path / "s")])

    body = json.loads(capsys.readouterr().out)
    assert code == 1
    assert body["ready"] is False
    assert body["tokens"][1] == {
        "name": "ledger",
        "state": "unavailable",
        "required": True,
        "expires_in": None,
        "retry_in": 4,
        "reason": "connect_failed",
        "hint": "is it up?",
        "grants": None,
    }


def test_grants_of_several_people_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """How each of them stands is the matter of another command, which is named."""
    listed = {"tokens": [{"name": "people", "state": "fresh", "grants": 12}]}
    with daemon(tmp_path / "s", {"/v1/tokens": answer(listed), "/readyz": answer(READY)}):
        main(["status", "--socket", str(tmp_path / "s")])
        table = capsys.readouterr().out
        main(["status", "--json", "--socket", str(tmp_path / "s")])

    assert "people: 12 grant(s), each with a state of its own: token-broker grants list --token people" in table
    assert json.loads(capsys.readouterr().out)["tokens"][0]["grants"] == 12


def test_a_daemon_that_is_not_there_is_exit_1_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As for every command that asks the daemon."""
    code = main(["status", "--socket", str(tmp_path / "s")])

    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert "[daemon_unreachable]" in captured.err


def test_a_caller_that_may_see_nothing_is_told_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The daemon's words, and exit 1."""
    body = {"error": "access_denied", "error_description": "no workload is like this caller", "hint": "uid 5"}
    with canned(tmp_path / "s", answer(body, "403 Forbidden")):
        code = main(["status", "--socket", str(tmp_path / "s")])

    assert code == 1
    assert capsys.readouterr().err == "no workload is like this caller [access_denied]\n  uid 5\n"


@pytest.mark.parametrize("body", [{}, {"tokens": 5}, {"tokens": [5]}, {"tokens": [{}]}, {"tokens": [{"name": "a"}]}])
def test_something_else_that_answers_is_not_taken_for_a_broker(
    tmp_path: Path, body: object, capsys: pytest.CaptureFixture[str]
):
    """No traceback for any JSON."""
    with daemon(tmp_path / "s", {"/v1/tokens": answer(body), "/readyz": answer(READY)}):
        code = main(["status", "--socket", str(tmp_path / "s")])

    assert code == 1
    assert "[not_a_broker]" in capsys.readouterr().err


def test_colors_change_nothing_but_the_color():
    """Without the sequences the table is the plain one, columns included."""
    state = status(token("a"), token("b", "unavailable"), token("c", "something_new"))

    colored = as_table(state, colors=True)

    assert "\x1b[32mfresh\x1b[0m" in colored
    assert "\x1b[31munavailable\x1b[0m" in colored
    for sequence in ("\x1b[32m", "\x1b[31m", "\x1b[0m"):
        colored = colored.replace(sequence, "")
    assert colored == as_table(state, colors=False)


def test_nothing_that_is_told_can_steer_the_terminal():
    """Whoever answers on the socket may not be a broker."""
    state = status(token("a\x1b[2J", "fresh\r\n", hint="\x07\u202e"))

    lines = as_table(state, colors=False)

    assert all(letter.isprintable() or letter == "\n" for letter in lines)
    assert as_json(state).isascii()


def test_a_caller_without_tokens_sees_that_there_are_none():
    """An empty table would look like a mistake."""
    assert as_table(status(), colors=False) == "no token that you may see\nready"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (60, "1 min 0 s"), (7_325, "2 h 2 min"), (None, "-")])
def test_times_have_the_units_that_matter(seconds: int | None, text: str):
    """Two of them at most."""
    row = as_table(status(token(expires_in=seconds)), colors=False).splitlines()[1]

    assert f"  {text}  " in row


def test_ten_thousand_tokens_are_ten_thousand_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As many as a broker is meant for."""
    names = [f"{'a-long-name-of-a-token-' * 2}{number}" for number in range(10_000)]
    listed = {"tokens": [{"name": name, "state": "unavailable", "hint": "what to do " * 9} for name in names]}
    with daemon(tmp_path / "s", {"/v1/tokens": answer(listed), "/readyz": answer(READY)}):
        main(["status", "--socket", str(tmp_path / "s")])

    assert capsys.readouterr().out.count("unavailable") == len(names)


def test_what_waits_for_a_restart_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """To those whom the daemon tells it."""
    answers = {"/v1/tokens": answer(LISTED), "/readyz": answer({**READY, "restart": ["listener", "audit"]})}
    with daemon(tmp_path / "s", answers):
        main(["status", "--socket", str(tmp_path / "s")])
        main(["status", "--json", "--socket", str(tmp_path / "s")])

    told = capsys.readouterr().out
    assert "restart pending: changes of listener, audit wait for one" in told.splitlines()
    assert '"restart": [\n    "listener",\n    "audit"\n  ]' in told


def test_a_refused_reload_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The broker is ready all the same: with the old configuration."""
    answers = {"/v1/tokens": answer(LISTED), "/readyz": answer({**READY, "reload_refused": True})}
    with daemon(tmp_path / "s", answers):
        main(["status", "--socket", str(tmp_path / "s")])
        main(["status", "--json", "--socket", str(tmp_path / "s")])

    told = capsys.readouterr().out
    assert "the last reload was refused (see the log): old configuration in force" in told.splitlines()
    assert '"reload_refused": true' in told


def test_sentences_are_broken_at_the_edge_of_the_terminal_and_rows_are_not():
    """Between words, so that a path or an address can be copied; in a pipe each is one line."""
    hint = "ask whoever runs the server whether it is up, at https://as.bank.example/a-very/long-path/to/somewhere"
    state = status(token("ledger-of-the-bank", "unavailable", hint=hint))

    row, *sentence = as_table(state, colors=False, width=60).splitlines()[1:-1]

    assert row == as_table(state, colors=False).splitlines()[1]
    assert len(sentence) == 3
    assert all(len(line) <= 60 or " " not in line.strip() for line in sentence)
    assert " ".join(line.strip() for line in sentence) == f"ledger-of-the-bank: {hint}"
    assert f"ledger-of-the-bank: {hint}" in as_table(state, colors=False).splitlines()
    assert as_table(state, colors=False, width=12) == as_table(state, colors=False)
