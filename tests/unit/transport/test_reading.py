from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.transport.reading import MAX_INTERIM_ANSWERS, piece_at_hand, read_piece
from tests.unit.transport.certificates import server_context
from tests.unit.transport.servers import OK, Connection, Handler, serving, session

pytestmark = pytest.mark.real_time

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
DEADLINE = 20.0
"""Seconds: far more than anything here may take."""


def says_and_stays(*pieces: bytes) -> Handler:
    """Say one piece after the other, and leave the connection open."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        for piece in pieces:
            await connection.say(piece)
            await asyncio.sleep(0.05)
        await asyncio.sleep(60)

    return handler


async def outcome_of(handler: Handler, *, scheme: str = "http") -> tuple[Response | RemoteError, float]:
    """Give what comes of a request, and how many seconds it took."""
    tls = server_context() if scheme == "https" else None
    async with serving(handler, tls) as server, session(deadline=DEADLINE) as connections:
        began = time.monotonic()
        try:
            answer: Response | RemoteError = await connections.send(
                Request(method="POST", url=server.url(scheme=scheme), form=(("a", "b"),))
            )
        except RemoteError as error:
            answer = error
        return answer, time.monotonic() - began


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "pieces",
    [
        (CHUNKED + b"2\r\n{}\r\n", b"zz\r\n"),
        (CHUNKED + b"2\r\n{}\r\nzz\r\n",),
        (CHUNKED, b"2\r\n{}", b"GARBAGE"),
        (CHUNKED, b"-2\r\n{}\r\n"),
        (OK + b"GARBAGE\r\n",),  # the whole good answer is lost to aiohttp's parser: not ours to mend
    ],
)
async def test_nonsense_within_an_answer_ends_the_call_at_once(pieces: tuple[bytes, ...], scheme: str):
    """Not at the deadline; the request was written, so its fate is unknown."""
    error, took = await outcome_of(says_and_stays(*pieces), scheme=scheme)

    assert isinstance(error, RemoteError)
    assert (error.code, error.outcome) == (Reason.PROTOCOL_VIOLATED, Outcome.UNKNOWN)
    assert took < DEADLINE / 2


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("pieces", [(OK, b"GARBAGE\r\n"), (OK + OK,), (OK.removesuffix(b"{}"), b"{}GARBAGE\r\n")])
async def test_nonsense_after_a_whole_answer_does_not_spoil_it(pieces: tuple[bytes, ...], scheme: str):
    """RFC 9112 section 6.3: what follows is no answer to anything; the connection is not used again."""
    answer, _ = await outcome_of(says_and_stays(*pieces), scheme=scheme)

    assert isinstance(answer, Response)
    assert answer.body == b"{}"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_slow_body_is_waited_for(scheme: str):
    """Looking whether the connection is there does not lose a byte."""
    pieces = (CHUNKED, b"", b"", b"", b"1\r\n{\r\n", b"", b"", b"", b"1\r\n}\r\n", b"0\r\n\r\n")
    answer, took = await outcome_of(says_and_stays(*pieces), scheme=scheme)

    assert isinstance(answer, Response)
    assert answer.body == b"{}"
    assert took > 0.2


async def test_as_many_interim_answers_as_are_allowed_are_skipped():
    """RFC 9110 section 15.2."""
    answer, _ = await outcome_of(says_and_stays(INTERIM * MAX_INTERIM_ANSWERS + OK))

    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (200, b"{}")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_more_interim_answers_than_that_end_the_call_at_once(scheme: str):
    """A stream of them would keep the loop busy until the deadline."""
    error, took = await outcome_of(says_and_stays(INTERIM * (MAX_INTERIM_ANSWERS + 1) + OK), scheme=scheme)

    assert isinstance(error, RemoteError)
    assert (error.code, error.outcome) == (Reason.PROTOCOL_VIOLATED, Outcome.UNKNOWN)
    assert took < DEADLINE / 2


async def test_a_connection_that_ends_between_two_reads_is_a_lost_one():
    """aiohttp says RuntimeError, which would look like a bug of ours."""

    class Ended:
        async def read(self, size: int) -> bytes:
            raise RuntimeError("Connection closed.")

    with pytest.raises(aiohttp.ClientPayloadError):
        await read_piece(cast("Any", SimpleNamespace(content=Ended())), 1)


async def test_what_is_here_is_given_without_waiting_and_the_end_is_told_from_what_is_missing():
    """At most so many bytes at a time; nothing is at the end, and not known is what has not come."""
    protocol = cast("Any", SimpleNamespace(resume_reading=lambda **_: None, pause_reading=lambda: None))
    content = aiohttp.StreamReader(protocol, 1 << 16, loop=asyncio.get_running_loop())
    answer = cast("aiohttp.ClientResponse", SimpleNamespace(content=content))

    nothing_yet = piece_at_hand(answer, 4)
    content.feed_data(b"abcdef")
    pieces = [piece_at_hand(answer, 4), piece_at_hand(answer, 4), piece_at_hand(answer, 4)]
    content.feed_eof()

    assert nothing_yet is None
    assert pieces == [b"abcd", b"ef", None]
    assert piece_at_hand(answer, 4) == b""


async def test_what_broke_off_is_no_end():
    """Neither where it is waited for, nor where it need not be."""
    content = aiohttp.StreamReader(cast("Any", SimpleNamespace()), 1 << 16, loop=asyncio.get_running_loop())
    content.set_exception(aiohttp.ClientPayloadError())

    with pytest.raises(aiohttp.ClientPayloadError):
        piece_at_hand(cast("aiohttp.ClientResponse", SimpleNamespace(content=content)), 4)
