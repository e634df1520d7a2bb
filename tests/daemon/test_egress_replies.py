"""Replies that no server of good sense makes, and what a caller gets of them: from a raw TLS server, byte by byte."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.daemon.egress_place import ALLOW, EgressPlace, config_with
from tests.daemon.harness import broker_process, sandbox_process
from tests.daemon.strict_http import Given, given_in
from tests.unit.transport import certificates

PATIENCE = 20.0


@dataclass
class RawApi:
    """Says *says* to each request, in one write, and keeps the connection open if *stays*; *heard* is what came."""

    listener: socket.socket
    context: ssl.SSLContext
    says: bytes = b""
    stays: bool = False
    heard: list[bytes] = field(default_factory=list)

    def serve(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                plain, _ = self.listener.accept()
                threading.Thread(target=self.talk, args=(plain,), daemon=True).start()

    def talk(self, plain: socket.socket) -> None:
        with suppress(OSError), plain:
            plain.settimeout(PATIENCE)
            with self.context.wrap_socket(plain, server_side=True) as connection:
                while True:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        piece = connection.recv(65_536)
                        if not piece:
                            return
                        head += piece
                    self.heard.append(head)
                    connection.sendall(self.says)
                    if not self.stays:
                        return


@contextmanager
def raw_api() -> Iterator[RawApi]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = RawApi(listener, certificates.server_context())
        threading.Thread(target=api.serve, daemon=True).start()
        yield api
        listener.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Odd:
    at: EgressPlace
    api: RawApi

    def ask(self, says: bytes, *, version: str = "1.1", stays: bool = False) -> tuple[list[Given], bytes]:
        """Have the API say something to a call, and give what the caller gets until the connection ends."""
        self.api.says, self.api.stays = says, stays
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.at.broker.socket))
            call = f"GET /v1/egress/api/hello HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            connection.sendall(call.encode())
            received = b""
            with suppress(ConnectionResetError):
                while piece := connection.recv(65_536):
                    received += piece
        return given_in(received, bodiless=False), received


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    with raw_api() as api, sandbox_process(tmp_path_factory.mktemp("replies"), lifetime=600) as sandbox:
        ca = certificates.authority().certificate
        (sandbox.home / "api-ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        more = "reply_timeout_seconds = 2\nidle_timeout_seconds = 2"
        config = config_with(sandbox, allow=ALLOW, more=more)
        before, _, after = config.partition("[upstream.api]")
        lines = after.splitlines()
        lines[1] = f'base_url = "https://127.0.0.1:{api.listener.getsockname()[1]}/api"'
        lines[3] = 'ca_file = "api-ca.pem"'
        with broker_process(sandbox, config=before + "[upstream.api]" + "\n".join(lines)) as broker:
            yield Odd(EgressPlace(sandbox, broker), api)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

REPLIES = {
    "plain": OK + b"\r\nok",
    "a folded field": OK + b"X-Folded: a\r\n b\r\n\r\nok",
    "a field with a line feed": OK + b"X-Odd: a\nX-Other: b\r\n\r\nok",
    "a field with a carriage return": OK + b"X-Odd: a\rb\r\n\r\nok",
    "a field with a NUL": OK + b"X-Odd: a\0b\r\n\r\nok",
    "a field with a control": OK + b"X-Odd: a\x01b\x7f\r\n\r\nok",
    "a field with bytes that are no UTF-8": OK + b"X-Odd: a\xffb\r\n\r\nok",
    "a field with UTF-8": OK + b"X-Odd: a\xc3\xa4b\r\n\r\nok",
    "a name with a space": OK + b"X Odd: a\r\n\r\nok",
    "a name with a colon only": OK + b": a\r\n\r\nok",
    "a line without a colon": OK + b"nonsense\r\n\r\nok",
    "a field of 7 KB": OK + b"X-Odd: " + b"z" * 7_000 + b"\r\n\r\nok",
    "a field of 20 KB": OK + b"X-Odd: " + b"z" * 20_000 + b"\r\n\r\nok",
    "a hundred fields": OK + b"X-Odd: z\r\n" * 100 + b"\r\nok",
    "five hundred fields": OK + b"X-Odd: z\r\n" * 500 + b"\r\nok",
    "lines that end with a line feed": OK.replace(b"\r\n", b"\n") + b"\nok",
    "two lengths": OK + b"Content-Length: 3\r\n\r\nok!",
    "a length twice": OK + b"Content-Length: 2\r\n\r\nok",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "a length beyond all": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
    "a length and chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: zip\r\n\r\nok",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks with trailers": CHUNKED + b"2\r\nok\r\n0\r\nSet-Cookie: leaked\r\n\r\n",
    "chunks with extensions": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;leaked=1\r\nok\r\n0\r\n\r\n",
    "no length at all": b"HTTP/1.1 200 OK\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/0.9": b"ok",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "a reason with bytes that are no UTF-8": b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\nok",
    "a reason with a control": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok",
    "status 101": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nok",
    "status 099": b"HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
    "status 999": b"HTTP/1.1 999 High\r\nContent-Length: 2\r\n\r\nok",
    "status 20": b"HTTP/1.1 20 Short\r\nContent-Length: 2\r\n\r\nok",
    "204 with a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    "204 in chunks": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "304 with a length": b'HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\nETag: "a"\r\n\r\n',
    "205 with a body": b"HTTP/1.1 205 Reset\r\nContent-Length: 2\r\n\r\nok",
    "two replies": (OK + b"\r\nok") * 2,
    "a reply behind a reply": OK + b"\r\nokHTTP/1.1 200 OK\r\nX-Evil: leaked\r\nContent-Length: 6\r\n\r\nleaked",
    "a Connection that names all": OK + b"Connection: content-length, date, X-Odd\r\nX-Odd: leaked\r\n\r\nok",
    "our own Proxy-Status": OK + b"Proxy-Status: token-broker; error=x, other\r\n\r\nok",
    "our own Proxy-Status, quoted": OK + b'Proxy-Status: "token-broker"; details="a, token-broker; b"\r\n\r\nok',
    "an upgrade": OK + b"Connection: upgrade\r\nUpgrade: leaked\r\n\r\nok",
    "nothing": b"",
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
}  # fmt: skip

REFUSED = {
    "two lengths", "a list of lengths", "a length that is none", "a length beyond all", "a length and chunks",
    "HTTP/0.9", "a line without a colon", "a name with a colon only", "a name with a space", "status 101",
    "status 099", "status 20", "status 999", "nothing", "an alert", "a field with a control", "a field with a NUL",
    "a field with a carriage return",
}  # fmt: skip
"""Of which a caller gets nothing but the broker's word."""


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("name", REPLIES)
def test_whatever_an_api_says_a_caller_gets_http_or_a_clear_error(odd: Odd, name: str, version: str):
    """One answer for one call, well-formed, without what was smuggled into it; and nothing surprises the broker."""
    broker = odd.at.broker
    before = len(broker.log("unexpected_failure") + broker.log("library_reported"))
    answers, received = odd.ask(REPLIES[name], version=version)

    assert len(answers) == 1, received
    (answer,) = answers
    assert b"leaked" not in received
    ours = [value for value in answer.values("proxy-status") if value.startswith("token-broker")]
    if answer.status == 502 or name in REFUSED:
        assert (answer.status, len(ours)) == (502, 1), received
    else:
        assert ours == []
        assert answer.body in {b"ok", b""}
        assert answer.is_whole
    assert len(broker.log("unexpected_failure") + broker.log("library_reported")) == before


def test_what_stays_behind_a_reply_is_not_the_reply_to_the_next_call(odd: Odd):
    """A server that says two things to one call is not asked again on that connection."""
    two = OK + b"\r\nok" + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nleaked"
    for _ in range(10):
        answers, _ = odd.ask(two, stays=True)
        assert b"leaked" not in answers[0].body
    answers, _ = odd.ask(OK + b"\r\nok", stays=True)
    assert (answers[0].status, answers[0].body) == (200, b"ok")


def test_no_secret_of_the_api_call_is_in_what_a_caller_gets(odd: Odd):
    """An API that echoes the head of the request in its body shows a token; that is its own affair, and seen here."""
    odd.ask(OK + b"\r\nok")
    assert b"Bearer eyJ" in odd.api.heard[-1]
    assert Path(odd.at.broker.audit).read_text().count("eyJ") == 0
