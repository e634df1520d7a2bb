"""What aiohttp read, and what it is to write."""

from __future__ import annotations

from aiohttp.http import HttpVersion10
from aiohttp.test_utils import make_mocked_request

from broker.api.answers import Answer
from broker.api.messages import incoming_of, response_of


async def test_a_request_is_taken_over_as_it_was_sent():
    """In the version that its sender said, whatever it is answered in."""
    request = make_mocked_request("GET", "/a%20b?c=d", headers={"Host": "localhost", "X": "1"})

    incoming = incoming_of(request, HttpVersion10)

    assert (incoming.method, incoming.target, incoming.version) == ("GET", "/a%20b?c=d", (1, 0))
    assert incoming.headers == (("Host", "localhost"), ("X", "1"))
    assert incoming.head_size == len("GET /a%20b?c=d HTTP/1.0\r\nHost: localhost\r\nX: 1\r\n\r\n")
    assert not incoming.has_body


async def test_an_answer_ends_its_connection_only_if_it_shall():
    """With its body and all its headers."""
    answer = Answer(status=403, body=b"{}", headers=(("X", "1"),))

    last, another = (response_of(answer, close=close) for close in (True, False))

    assert (last.status, last.body, last.headers["X"], last.headers["Cache-Control"]) == (403, b"{}", "1", "no-store")
    assert (last.keep_alive, another.keep_alive) == (False, None)
