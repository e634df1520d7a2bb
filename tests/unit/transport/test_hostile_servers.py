"""What a server can do to a client that listens to it: each ends in a RemoteError, in time and in bounded memory."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from itertools import repeat

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.transport.session import MAX_BODY
from tests.unit.transport.certificates import server_context
from tests.unit.transport.servers import Connection, Handler, RawServer, says, serving, session

pytestmark = pytest.mark.real_time

DEADLINE = 0.3
"""Seconds: short, so that the tests are quick."""

IN_TIME = 2.0
"""Seconds within which everything is over, on a busy machine."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
MEBIBYTE = 1024 * 1024


def goes_on(first: bytes, pieces: Iterator[bytes], *, pause: float = 0.0) -> Handler:
    """Say *first* and then *pieces* for as long as the client listens."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(first)
        for piece in pieces:
            await connection.say(piece)
            await asyncio.sleep(pause)

    return handler


async def outcome_of(server: RawServer, *, scheme: str = "http", max_body: int = MAX_BODY) -> Response | RemoteError:
    """Send a token request and give what comes of it; fails if that takes too long."""
    async with session(deadline=DEADLINE, max_body=max_body) as connections, asyncio.timeout(IN_TIME):
        try:
            return await connections.send(Request(method="POST", url=server.url(scheme=scheme), form=(("a", "b"),)))
        except RemoteError as error:
            return error


NOT_AN_ANSWER = {
    "nothing": (b"", Reason.CONNECTION_LOST),
    "a banner of another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.PROTOCOL_VIOLATED),
    "HTML without a head": (b"<html>no</html>", Reason.PROTOCOL_VIOLATED),
    "half a status line": (b"HTTP/1.1 2", Reason.CONNECTION_LOST),
    "half a head": (HEAD, Reason.CONNECTION_LOST),
    "an interim answer only": (b"HTTP/1.1 100 Continue\r\n\r\n", Reason.CONNECTION_LOST),
    "switching protocols": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nabc",
        Reason.PROTOCOL_VIOLATED,
    ),
    "status 099": (b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", Reason.PROTOCOL_VIOLATED),
    "status 600": (b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n", Reason.PROTOCOL_VIOLATED),
    "a header line of 20 kB": (HEAD + b"A: " + b"a" * 20_000 + b"\r\n\r\n", Reason.PROTOCOL_VIOLATED),
    "a thousand headers": (HEAD + b"A: b\r\n" * 1_000 + b"\r\n", Reason.PROTOCOL_VIOLATED),
    "a NUL in a header": (HEAD + b"A: \0\r\n\r\n", Reason.PROTOCOL_VIOLATED),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", Reason.PROTOCOL_VIOLATED),
    "a length and chunks": (
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Reason.PROTOCOL_VIOLATED,
    ),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n{}", Reason.PROTOCOL_VIOLATED),
    "half a body": (HEAD + b"Content-Length: 100\r\n\r\n{}", Reason.CONNECTION_LOST),
    "half a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", Reason.CONNECTION_LOST),
    "no last chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", Reason.CONNECTION_LOST),
    "a chunk size that is none": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", Reason.PROTOCOL_VIOLATED),
    "a gzipped body": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", Reason.ENCODED),
    "a body encoded twice": (HEAD + b"Content-Encoding: identity, br\r\nContent-Length: 2\r\n\r\n{}", Reason.ENCODED),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("data", "reason"), NOT_AN_ANSWER.values(), ids=NOT_AN_ANSWER.keys())
async def test_what_is_not_a_whole_answer_is_refused(data: bytes, reason: Reason, scheme: str):
    """The request was written, so its fate is unknown, whatever nonsense comes back."""
    tls = server_context() if scheme == "https" else None
    async with serving(says(data), tls) as server:
        error = await outcome_of(server, scheme=scheme)

        assert isinstance(error, RemoteError)
        assert (error.code, error.outcome) == (reason, Outcome.UNKNOWN)


ENDLESS = {
    "interim answers": goes_on(b"", repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)),
    "one header line": goes_on(HEAD + b"A: ", repeat(b"a" * 65_536)),
    "header lines": goes_on(HEAD, repeat(b"A: b\r\n" * 10_000)),
    "a head, a byte at a time": goes_on(b"", iter(bytes([byte]) for byte in HEAD * 100), pause=0.05),
    "a body, a byte at a time": goes_on(HEAD + b"Content-Length: 1000\r\n\r\n", repeat(b" "), pause=0.05),
    "a body to the end of the connection": goes_on(HEAD + b"\r\n", repeat(b" " * 65_536)),
    "chunks": goes_on(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", repeat(b"1000\r\n" + b" " * 4_096 + b"\r\n")),
    "chunks of one byte": goes_on(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", repeat(b"1\r\n \r\n" * 10_000)),
    "a chunk extension": goes_on(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", repeat(b"a" * 65_536)),
    "trailers": goes_on(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", repeat(b"A: b\r\n" * 10_000)),
}


@pytest.mark.parametrize("handler", ENDLESS.values(), ids=ENDLESS.keys())
async def test_an_endless_answer_ends_in_time_and_in_bounded_memory(handler: Handler):
    """The deadline or the cap ends it; what is held of it at any time is a few times the cap."""
    async with serving(handler) as server:
        gc.collect()
        tracemalloc.start()
        try:
            error = await outcome_of(server)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert isinstance(error, RemoteError)
        assert error.code in {Reason.TIMED_OUT, Reason.TOO_LARGE, Reason.PROTOCOL_VIOLATED}
        assert error.outcome is Outcome.UNKNOWN
        assert peak < 32 * MEBIBYTE


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("length", [b"Content-Length: 104857600\r\n", b""])
async def test_of_a_huge_body_no_more_is_read_than_the_cap(length: bytes, scheme: str):
    """100 MB: the connection is closed, and the server gets rid of no more than what buffers hold."""
    tls = server_context() if scheme == "https" else None
    async with serving(goes_on(HEAD + length + b"\r\n", repeat(b" " * 65_536, 1_600)), tls) as server:
        error = await outcome_of(server, scheme=scheme, max_body=64 * 1024)

        assert isinstance(error, RemoteError)
        assert (error.code, error.outcome, error.status) == (Reason.TOO_LARGE, Outcome.UNKNOWN, 200)
        assert server.said < 16 * MEBIBYTE


async def test_a_length_above_the_cap_is_refused_before_the_body_comes():
    """There is nothing to wait for."""
    async with serving(goes_on(HEAD + b"Content-Length: 104857600\r\n\r\n", repeat(b"", 1), pause=60.0)) as server:
        error = await outcome_of(server)

        assert isinstance(error, RemoteError)
        assert error.code == Reason.TOO_LARGE


@pytest.mark.parametrize("length", [b"Content-Length: %d\r\n", b""])
async def test_a_body_of_exactly_the_cap_is_read(length: bytes):
    """The cap is inclusive, with and without a length."""
    head = HEAD + (length % 1_000 if length else b"") + b"\r\n"
    async with serving(says(head + b" " * 1_000)) as server:
        answer = await outcome_of(server, max_body=1_000)

        assert isinstance(answer, Response)
        assert len(answer.body) == 1_000


@pytest.mark.parametrize("length", [b"Content-Length: %d\r\n", b""])
async def test_a_body_one_byte_above_the_cap_is_refused(length: bytes):
    """With a length as soon as it is said, without one as soon as the byte is there."""
    head = HEAD + (length % 1_001 if length else b"") + b"\r\n"
    async with serving(says(head + b" " * 1_001)) as server:
        error = await outcome_of(server, max_body=1_000)

        assert isinstance(error, RemoteError)
        assert error.code == Reason.TOO_LARGE


async def test_nonsense_after_the_first_chunk_ends_the_call():
    """aiohttp closes the connection and tells nobody who waits for the body; the deadline does."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        await asyncio.sleep(0.05)
        await connection.say(b"zz\r\n")
        await asyncio.sleep(60)

    async with serving(handler) as server:
        error = await outcome_of(server)

        assert isinstance(error, RemoteError)
        assert error.outcome is Outcome.UNKNOWN


async def test_an_interim_answer_before_the_real_one_is_skipped():
    """RFC 9110 section 15.2: a client must be able to parse 1xx answers that it did not expect."""
    async with serving(says(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}")) as server:
        answer = await outcome_of(server)

        assert isinstance(answer, Response)
        assert (answer.status, answer.body) == (200, b"{}")
