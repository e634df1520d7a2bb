from __future__ import annotations

from http import HTTPStatus

import pytest

from broker.cli.login_http import MAX_BODY, Answer, read_form, read_head

HOST = "127.0.0.1:4000"


def head(*lines: str, first: str = "GET /callback?code=c HTTP/1.1", host: str = HOST) -> bytes:
    return "\r\n".join([first, f"Host: {host}", *lines]).encode("latin-1")


def test_a_request_is_read():
    """The target stays as it was written; names of fields are folded, and repeated ones kept apart."""
    read = read_head(head("COOKIE: a=1; b=2", "Cookie:\tb=3", first="GET /callback?code=a%2Fb HTTP/1.1"), host=HOST)

    assert read is not None
    request, length = read
    assert (request.method, request.target, request.path, request.query, length) == (
        "GET",
        "/callback?code=a%2Fb",
        "/callback",
        "code=a%2Fb",
        0,
    )
    assert (request.cookies("b"), request.cookies("c")) == (("2", "3"), ())


def test_a_request_does_not_print_what_it_holds():
    """A code, and cookies of whatever else is served on this address."""
    read = read_head(head("Cookie: a=secret", first="GET /callback?code=secret HTTP/1.1"), host=HOST)

    assert "secret" not in repr(read)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        head(host="localhost:4000"),
        head(host="127.0.0.1:4001"),
        head(host="attacker.example"),
        head(f"Host: {HOST}"),
        b"GET /callback HTTP/1.1",
        head(first="GET /callback HTTP/1.0"),
        head(first="GET http://127.0.0.1:4000/callback HTTP/1.1"),
        head(first="GET  /callback HTTP/1.1"),
        head(first="GET /call back HTTP/1.1"),
        head(first="GET /\xe9 HTTP/1.1"),
        head(first="HEAD /callback HTTP/1.1"),
        head(first="PUT /callback HTTP/1.1"),
        head(" folded: x"),
        head("no colon"),
        head("a: x\x00y"),
        head("a: x\ny: z"),
        head("Content-Length: 3"),
        head("Sec-Purpose: prefetch;prerender"),
        head("Purpose: prefetch"),
        head("Sec-Fetch-Dest: iframe"),
        head("Sec-Fetch-Dest: image"),
        head("Sec-Fetch-Dest: document", "Sec-Fetch-Dest: image"),
        head("Transfer-Encoding: chunked", first="POST /callback HTTP/1.1"),
        head("Content-Length: 3", first="POST /callback HTTP/1.1"),
        head("Content-Length: 3", "Content-Type: application/json", first="POST /callback HTTP/1.1"),
        head("Content-Length: 3", "Content-Length: 3", first="POST /callback HTTP/1.1"),
        head("Content-Length: +3", first="POST /callback HTTP/1.1"),
    ],
)
def test_what_no_browser_on_its_way_here_would_send_is_junk(raw: bytes):
    """Another host, a page loaded ahead or in a frame, a smuggled second request: all alike."""
    assert read_head(raw, host=HOST) is None


@pytest.mark.parametrize(("length", "is_read"), [(0, True), (MAX_BODY, True), (MAX_BODY + 1, False)])
def test_a_form_may_have_a_certain_size(length: int, is_read: bool):
    """The daemon would not take more."""
    raw = head(
        f"Content-Length: {length}",
        "Content-Type: Application/X-WWW-Form-Urlencoded; charset=utf-8",
        "Sec-Fetch-Dest: document",
        first="POST /callback HTTP/1.1",
    )

    assert (read_head(raw, host=HOST) is not None) is is_read


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"code=a%2Bb+c&state=", {"code": "a+b c", "state": ""}),
        (b"a=1&a=2&a=3", {"a": ["1", "2", "3"]}),
        (b"", {}),
        (b"code", None),
        (b"a=%ff", None),
        (b"a=\xff", None),
        (b"&".join(b"a%d=1" % n for n in range(51)), None),
    ],
)
def test_a_form_is_read_strictly(body: bytes, form: dict[str, object] | None):
    """A repeated field stays repeated: it is the daemon that refuses it."""
    assert read_form(body) == form


def test_an_answer_may_not_be_kept_framed_or_told_on():
    """Whatever it is, a redirect too."""
    raw = Answer(status=HTTPStatus.SEE_OTHER, location="/done", cookie="n=v").to_bytes().decode()

    assert raw.startswith("HTTP/1.1 303 See Other\r\n")
    for line in (
        "Location: /done",
        "Set-Cookie: n=v; Path=/; HttpOnly; SameSite=Lax",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        "Content-Length: 0",
    ):
        assert f"\r\n{line}\r\n" in raw
    assert "Content-Security-Policy: default-src 'none'; style-src 'sha256-" in raw
    assert "frame-ancestors 'none'" in raw
