from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from broker.cli.local_client import Address, DaemonError, get_status, get_token, request_json
from broker.errors import LocalError, RemoteError
from tests.unit.cli.canned import TOKEN, answer, canned, dripping
from tests.unit.cli.test_status import LISTED, READY, daemon

NESTED = b"[" * 100_000 + b"]" * 100_000
"""More than any parser that calls itself takes."""


def raw_answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def test_a_token_is_fetched_in_one_request(tmp_path: Path):
    """The name is quoted, and the wishes go into the query."""
    with canned(tmp_path / "s", answer(TOKEN)) as seen:
        token = get_token(tmp_path / "s", "my.token", min_valid=30, wait=5)

    assert (token.access_token, token.token_type, token.expires_in, token.thumbprint) == (
        "opaque-token",
        "Bearer",
        120,
        "thumb",
    )
    assert seen[0].startswith(b"GET /v1/tokens/my.token?min_valid=30&wait=5 HTTP/1.1\r\n")
    assert b"Host: localhost\r\n" in seen[0]


def test_a_fetched_token_does_not_print_itself(tmp_path: Path):
    """Also not in a traceback."""
    with canned(tmp_path / "s", answer(TOKEN)):
        assert "opaque-token" not in repr(get_token(tmp_path / "s", "a"))


def test_a_refusal_keeps_code_and_hint(tmp_path: Path):
    """What the daemon says reaches the person."""
    body = {"error": "access_denied", "error_description": "not yours", "hint": "yours: b"}
    with canned(tmp_path / "s", answer(body, "403 Forbidden")), pytest.raises(RemoteError) as caught:
        get_token(tmp_path / "s", "a")

    assert (caught.value.code, caught.value.message, caught.value.hint, caught.value.status) == (
        "access_denied",
        "not yours",
        "yours: b",
        403,
    )


@pytest.mark.parametrize("code", ["\x1b[2J", "", "A", "a b", "a" * 65, ["a"], 5, None])
def test_a_refusal_of_somebody_else_s_is_text_that_steers_no_terminal(tmp_path: Path, code: object):
    """Whoever took the place of the socket; a code that no broker has is not taken over."""
    body = {"error": code, "error_description": "a\x1b[2J", "hint": "b\n\x9b", "check": "\x07", "server_error": {}}
    with canned(tmp_path / "s", answer(body, "403 Forbidden")), pytest.raises(DaemonError) as caught:
        get_token(tmp_path / "s", "a")

    assert (caught.value.code, caught.value.message, caught.value.hint, caught.value.check) == (
        "server_error",
        "a\ufffd[2J",
        "b\ufffd\ufffd",
        "\ufffd",
    )
    assert caught.value.server_error is None


@pytest.mark.parametrize("body", [b'{"expires_in": 1e999}', b'{"a": ' + NESTED + b"}"], ids=["endless", "nested"])
def test_an_answer_that_python_cannot_hold_is_not_a_broker_s(tmp_path: Path, body: bytes):
    """Of a token as of the states of tokens."""
    whole = answer(TOKEN).partition(b"\r\n\r\n")[2].replace(b"120", b"1e999") if b"1e999" in body else body
    listed = b'{"tokens": [{"name": "a", "state": "fresh", "expires_in": 1e999}]}' if b"1e999" in body else body
    found = []
    with canned(tmp_path / "s", raw_answer(whole)), pytest.raises(LocalError) as caught:
        get_token(tmp_path / "s", "a")
    found.append(caught.value.code)
    answers = {"/v1/tokens": raw_answer(listed), "/readyz": answer(READY)}
    with daemon(tmp_path / "t", answers), pytest.raises(LocalError) as caught:
        get_status(tmp_path / "t")
    found.append(caught.value.code)
    answers = {"/v1/tokens": answer(LISTED), "/readyz": raw_answer(NESTED)}
    with daemon(tmp_path / "u", answers), pytest.raises(LocalError) as caught:
        get_status(tmp_path / "u")
    found.append(caught.value.code)

    assert found == ["not_a_broker"] * 3


def test_an_answer_that_drips_is_late_all_the_same(tmp_path: Path):
    """The time is for all of it, and not for each byte: these would take two seconds."""
    with dripping(tmp_path / "s", count=200, pause=0.01), pytest.raises(LocalError) as caught:
        request_json(tmp_path / "s", "/livez", timeout=0.1)

    assert caught.value.code == "daemon_silent"


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-x\r\n", answer(TOKEN)[:-20], answer([1]), answer({}), answer({**TOKEN, "expires_in": []})]
)
def test_what_is_not_a_broker_is_told_so(tmp_path: Path, raw: bytes):
    """A closed connection, another protocol, half an answer, another kind of answer: one clear line each."""
    with canned(tmp_path / "s", raw), pytest.raises(LocalError) as caught:
        get_token(tmp_path / "s", "a")

    assert caught.value.code in {"daemon_unreachable", "not_a_broker"}


def test_no_socket_says_where_it_was_looked_for(tmp_path: Path):
    """The path is in the message, the remedy in the hint."""
    with pytest.raises(LocalError) as caught:
        get_token(tmp_path / "absent", "a")

    assert str(tmp_path / "absent") in caught.value.message
    assert caught.value.hint is not None


def test_a_socket_that_nobody_serves_says_so(tmp_path: Path):
    """A daemon that was killed leaves its socket behind."""
    import socket

    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "s"))

    with pytest.raises(LocalError) as caught:
        get_token(tmp_path / "s", "a")

    assert "nobody listens" in caught.value.message


def test_a_socket_that_may_not_be_opened_says_so(tmp_path: Path):
    """A user outside of the listener's group is told what decides."""
    script = """
import os, sys
from pathlib import Path
from broker.cli.local_client import Address, get_token
if os.geteuid() == 0:
    os.setgid(65533)
    os.setuid(65533)  # nothing is imported after this: the interpreter may lie where only root can read
get_token(Path(sys.argv[1]), "a")
"""
    with canned(tmp_path / "s", answer(TOKEN)):
        (tmp_path / "s").chmod(0)
        result = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "s")],
            capture_output=True,
            text=True,
            check=False,
        )

    assert "not allowed to open" in result.stderr


@pytest.mark.parametrize("content", [None, b"", b"\n", b"a\nb", b"\xff" * 43])
def test_a_secret_that_cannot_be_read_is_told_before_anybody_is_called(tmp_path: Path, content: bytes | None):
    """There is no daemon at that port at all."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    daemon = Address(host="127.0.0.1", port=1, secret_file=tmp_path / "secret")

    with pytest.raises(LocalError) as caught:
        get_token(daemon, "a")

    assert caught.value.code == "secret_unreadable"
    assert str(tmp_path / "secret") in caught.value.message


def test_an_address_where_nobody_listens_is_told(tmp_path: Path):
    """As a socket is; the secret is not in the message."""
    (tmp_path / "secret").write_text("S" * 43)

    with pytest.raises(LocalError) as caught:
        get_token(Address(host="127.0.0.1", port=1, secret_file=tmp_path / "secret"), "a")

    assert caught.value.code == "daemon_unreachable"
    assert "http://127.0.0.1:1" in caught.value.message
    assert "SSS" not in str(caught.value)
