"""Calls of an API on real sockets: bodies stream either way, each side has its time, and nothing is sent twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.reasons import Reason
from broker.tokens.calls import ApiReply, ApiRequest, Body
from broker.transport.upstream import Patience, UpstreamLine
from tests.fakes import HandClock
from tests.unit.transport.certificates import client_context, server_context
from tests.unit.transport.servers import Connection, RawServer, answers_ok, says, serving

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\nhello"


class Given:
    """A body of some pieces, with pauses, or an error at its end."""

    def __init__(
        self, *pieces: bytes, length: int | None = None, pause: float = 0.0, fails: Exception | None = None
    ) -> None:
        self.length = length
        self._pieces = pieces
        self._pause = pause
        self._fails = fails

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
            await asyncio.sleep(self._pause)
        if self._fails is not None:
            raise self._fails


@contextlib.asynccontextmanager
async def line(patience: Patience | None = None, limit: int = 4) -> AsyncIterator[UpstreamLine]:
    made = UpstreamLine(ssl_context=client_context(), clock=HandClock(), limit=limit, patience=patience)
    try:
        yield made
    finally:
        await made.close()


def request(server: RawServer, method: str = "GET", body: Body | None = None) -> ApiRequest:
    return ApiRequest(method=method, url=server.url("/a?b=%20c", scheme="https"), fields=(("X", "1"),), body=body)


async def whole(reply: ApiReply) -> bytes:
    pieces = []
    while piece := await reply.body.read():
        pieces.append(piece)
    return b"".join(pieces)


async def test_a_reply_comes_with_all_its_fields():
    """In their order and with repetitions; the target goes out as it was given."""
    async with serving(says(HELLO), server_context()) as server, line() as calls:
        reply = await calls.open(request(server))

        assert (reply.status, reply.length, await whole(reply)) == (200, 5, b"hello")
        assert [value for name, value in reply.fields if name == "X-A"] == ["1", "2"]
        assert server.heard[0].head.startswith(b"GET /a?b=%20c HTTP/1.1\r\n")
        assert set(server.heard[0].headers()) == {"host", "x"}


async def test_a_connection_is_used_again_when_its_reply_was_read():
    """And only then."""
    async with serving(answers_ok, server_context()) as server, line() as calls:
        await whole(await calls.open(request(server)))
        await whole(await calls.open(request(server)))
        assert server.connections == 1

        reply = await calls.open(request(server))
        await reply.body.close()
        await whole(await calls.open(request(server)))

        assert calls.calls == 0


@pytest.mark.parametrize("length", [None, 6])
async def test_a_body_goes_out_as_it_comes(length: int | None):
    """With its length, or in chunks."""
    heard: list[bytes] = []

    async def handler(connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        end = b"0\r\n\r\n" if length is None else b"def"
        heard.append(await connection.reader.readuntil(end))
        await connection.say(HELLO)

    async with serving(handler, server_context()) as server, line() as calls:
        reply = await calls.open(request(server, "POST", Given(b"abc", b"def", length=length)))
        assert await whole(reply) == b"hello"

    assert (b"Transfer-Encoding: chunked" in heard[0]) == (length is None)
    assert (b"Content-Length: 6" in heard[0]) == (length is not None)
    assert heard[1] == (b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n" if length is None else b"abcdef")


@pytest.mark.parametrize("length", [None, 9])
async def test_a_body_goes_on_when_its_reply_has_begun(length: int | None):
    """An API may answer as it reads; no deadline is left that stands in the way of what is still to be sent."""

    async def handler(connection: Connection) -> None:
        await connection.reader.readuntil(b"abc")
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await connection.reader.readuntil(b"def")
        await connection.say(b"def")
        await connection.reader.readuntil(b"ghi")
        await connection.say(b"ghi")

    async with serving(handler, server_context()) as server, line() as calls:
        body = Given(b"abc", b"def", b"ghi", length=length, pause=0.05)
        reply = await calls.open(request(server, "POST", body))
        async with asyncio.timeout(5.0):
            assert await whole(reply) == b"abcdefghi"


async def test_a_reply_that_waits_for_the_body_has_time_while_that_comes():
    """Neither side pauses for longer than it may."""

    async def handler(connection: Connection) -> None:
        await connection.reader.readuntil(b"a")
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await connection.reader.readuntil(b"z")
        await connection.say(b"ok")

    async with serving(handler, server_context()) as server, line(Patience(reply=0.3, piece=0.3)) as calls:
        body = Given(*[b"a"] * 8, b"z", pause=0.1)
        assert await whole(await calls.open(request(server, "POST", body))) == b"ok"


async def test_a_body_that_fails_when_its_reply_has_begun_ends_that_at_once():
    """It would wait for the rest for as long as it may."""

    async def handler(connection: Connection) -> None:
        await connection.reader.readuntil(b"abc")
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await connection.reader.read()

    async with serving(handler, server_context()) as server, line() as calls:
        reply = await calls.open(request(server, "POST", Given(b"abc", pause=0.05, fails=ValueError("bad"))))
        async with asyncio.timeout(5.0):
            with pytest.raises(RemoteError) as lost:
                await whole(reply)

    assert lost.value.code == Reason.CONNECTION_LOST
    assert calls.calls == 0


async def test_a_reply_that_does_not_begin_in_time_is_given_up():
    """Its request may have been processed."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await asyncio.sleep(30)

    async with serving(handler, server_context()) as server, line(Patience(reply=0.2)) as calls:
        with pytest.raises(RemoteError) as raised:
            await calls.open(request(server))

        assert (raised.value.code, raised.value.outcome) == (Reason.TIMED_OUT, Outcome.UNKNOWN)
        assert calls.calls == 0


async def test_a_long_request_puts_the_deadline_off():
    """A body may take longer than a reply may."""

    async def handler(connection: Connection) -> None:
        await connection.reader.readuntil(b"0\r\n\r\n")
        await connection.say(HELLO)

    body = Given(*[b"x"] * 6, pause=0.1)
    async with serving(handler, server_context()) as server, line(Patience(reply=0.4)) as calls:
        assert await whole(await calls.open(request(server, "POST", body))) == b"hello"


async def test_a_body_that_breaks_off_is_its_senders_fault():
    """What it raised comes out, and the API gets no end of it."""

    async def handler(connection: Connection) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await connection.reader.readuntil(b"0\r\n\r\n")

    body = Given(b"abc", fails=ValueError("of the sender"))
    async with serving(handler, server_context()) as server, line() as calls:
        with pytest.raises(ValueError, match="of the sender"):
            await calls.open(request(server, "POST", body))


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_a_reply_that_breaks_off_is_an_error_and_no_end(said: bytes):
    """Half of an answer looks like a whole one to many programs."""
    async with serving(says(said), server_context()) as server, line() as calls:
        reply = await calls.open(request(server))

        with pytest.raises(RemoteError) as raised:
            await whole(reply)

        assert raised.value.code in {Reason.CONNECTION_LOST, Reason.PROTOCOL_VIOLATED}
        assert calls.calls == 0


async def test_an_api_that_pauses_for_too_long_is_given_up():
    """In the middle of a body."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
        await asyncio.sleep(30)

    async with serving(handler, server_context()) as server, line(Patience(piece=0.2)) as calls:
        reply = await calls.open(request(server))
        assert await reply.body.read() == b"hello"

        with pytest.raises(RemoteError) as raised:
            await reply.body.read()

        assert raised.value.code == Reason.TIMED_OUT


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", b"200 OK", 5), ("GET", b"204 No Content", None), ("GET", b"304 Not Modified", 5)],
)
async def test_a_reply_without_a_body_ends_with_its_head(method: str, status: bytes, length: int | None):
    """Whatever length it says."""
    of_length = b"" if length is None else b"Content-Length: 5\r\n"
    said = b"HTTP/1.1 " + status + b"\r\n" + of_length + b"\r\n"
    async with serving(says(said), server_context()) as server, line() as calls:
        reply = await calls.open(request(server, method))

        assert (reply.length, await whole(reply)) == (length, b"")


async def test_what_is_not_to_be_dialed_is_not_dialed():
    """Nor is what is no URL."""
    async with line() as calls:
        for url, reason in (
            ("https://169.254.169.254/a", Reason.ADDRESS_REFUSED),
            ("https://user@api.example/", Reason.ENDPOINT_REFUSED),
        ):
            with pytest.raises(RemoteError) as raised:
                await calls.open(ApiRequest(method="GET", url=url, fields=()))
            assert raised.value.code == reason


async def test_a_line_drains_and_then_closes():
    """It waits for calls, for so long; closing cuts what is left, and opens nothing any more."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
        await asyncio.sleep(30)

    async with serving(handler, server_context()) as server, line() as calls:
        await calls.drained(5.0)
        reply = await calls.open(request(server))
        await calls.drained(0.1)
        assert calls.calls == 1

        await calls.close()

        assert calls.calls == 0
        assert calls._connections._sockets.open() == []
        with pytest.raises(RemoteError):
            await whole(reply)
        with pytest.raises(RemoteError):
            await calls.open(request(server))
