"""HTTP as it comes over a real socket: malformed, slow, too large, too much."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from broker.api import problems
from broker.api.answers import Answer, problem_answer
from broker.api.desk import Asked, ReadBody
from broker.api.guard import MAX_HEAD, Incoming
from broker.api.limits import ConnectionLedger, Limits
from broker.api.memo import Recall
from broker.api.problems import Problem
from broker.api.protocol import LINGERING, Connection, Engine
from broker.api.table import Offer
from broker.events import RequestAnswered, RequestRefused, TokenServed, UnexpectedFailure
from broker.oauth.secret import AccessToken
from broker.policy.peer import Peer
from broker.policy.rules import Action
from broker.tokens.calls import Body
from tests.unit.api.world import (
    EVERYBODY,
    HOST,
    QUICK,
    FakeTokens,
    Received,
    parse,
    parse_all,
    request,
    served,
    serving,
    unavailable,
    until,
)

pytestmark = pytest.mark.real_time

CANARY = "canary-3f9a"
C = CANARY.encode()


def assert_one_shape(received: Received, status: int) -> None:
    """Every error has one shape, may not be stored, and tells no version."""
    assert received.status == status
    assert received.headers["content-type"] == "application/json"
    assert received.headers["cache-control"] == "no-store"
    assert received.headers["server"] == "token-broker"
    members = received.json()
    assert {"error", "error_description"} <= set(members) <= {"error", "error_description", "hint", "server_error"}
    assert all(isinstance(value, str) for value in members.values())


MALFORMED = {
    "nonsense": b"%b\r\n\r\n" % C,
    "no target": b"GET\r\n\r\n",
    "no version": b"GET /%b\r\n\r\n" % C,
    "bad version": b"GET / HTTP/%b\r\n%b\r\n" % (C, HOST),
    "version 1.2": b"GET / HTTP/1.2\r\n%b\r\n" % HOST,
    "version 2.0": b"GET / HTTP/2.0\r\n%bX: %b\r\n\r\n" % (HOST, C),
    "version 0.9": b"GET / HTTP/0.9\r\n%b\r\n" % HOST,
    "unknown method": b"%b / HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "lower-case method": b"get / HTTP/1.1\r\n%b\r\n" % HOST,
    "NUL in the target": b"GET /\0%b HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "NUL in a header": b"GET /livez HTTP/1.1\r\n%bX: a\0%b\r\n\r\n" % (HOST, C),
    "control in a header": b"GET /livez HTTP/1.1\r\n%bX: a\x01%b\r\n\r\n" % (HOST, C),
    "space in a header's name": b"GET /livez HTTP/1.1\r\n%bX %b: a\r\n\r\n" % (HOST, C),
    "space before a colon": b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a header without a colon": b"GET /livez HTTP/1.1\r\n%b%b\r\n\r\n" % (HOST, C),
    "a header without a name": b"GET /livez HTTP/1.1\r\n%b: %b\r\n\r\n" % (HOST, C),
    "a folded header": b"GET /livez HTTP/1.1\r\n%bX: a\r\n %b\r\n\r\n" % (HOST, C),
    "bare LF": b"GET /livez HTTP/1.1\nHost: localhost\nX: %b\n\n" % C,
    "bare LF in a header": b"GET /livez HTTP/1.1\r\n%bX: a\nY: %b\r\n\r\n" % (HOST, C),
    "bare CR": b"GET /livez HTTP/1.1\r\n%bX: a\rY: %b\r\n\r\n" % (HOST, C),
    "no Host": b"GET /livez HTTP/1.1\r\nX: %b\r\n\r\n" % C,
    "no Host in HTTP/1.0": b"GET /livez HTTP/1.0\r\nX: %b\r\n\r\n" % C,
    "two Hosts": b"GET /livez HTTP/1.1\r\n%b%bX: %b\r\n\r\n" % (HOST, HOST, C),
    "another Host": b"GET /livez HTTP/1.1\r\nHost: %b\r\n\r\n" % C,
    "an empty Host": b"GET /livez HTTP/1.1\r\nHost:\r\nX: %b\r\n\r\n" % C,
    "Origin": b"GET /livez HTTP/1.1\r\n%bOrigin: %b\r\n\r\n" % (HOST, C),
    "absolute form": b"GET http://localhost/livez HTTP/1.1\r\n%bX: %b\r\n\r\n" % (HOST, C),
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n%bX: %b\r\n\r\n" % (HOST, C),
    "CONNECT": b"CONNECT %b:443 HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "backslash": b"GET /v1\\%b HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "dots": b"GET /v1/../%b HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "a fragment": b"GET /livez#%b HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "bytes above ASCII": b"GET /\xff%b HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "UTF-8": "GET /ä HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "an unknown parameter": b"GET /livez?%b HTTP/1.1\r\n%b\r\n" % (C, HOST),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + C,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + C,
    "SSH": b"SSH-2.0-%b\r\n" % C,
    "length and chunks": b"GET /livez HTTP/1.1\r\n%bContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n%b"
    % (HOST, C),
    "chunks and length": b"GET /livez HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n%b"
    % (HOST, C),
    "two lengths": b"GET /livez HTTP/1.1\r\n%bContent-Length: 5\r\nContent-Length: 6\r\n\r\n%b" % (HOST, C),
    "one length twice": b"GET /livez HTTP/1.1\r\n%bContent-Length: 5\r\nContent-Length: 5\r\n\r\n%b" % (HOST, C),
    "a list of lengths": b"GET /livez HTTP/1.1\r\n%bContent-Length: 5, 5\r\n\r\n%b" % (HOST, C),
    "a signed length": b"GET /livez HTTP/1.1\r\n%bContent-Length: +5\r\n\r\n%b" % (HOST, C),
    "a negative length": b"GET /livez HTTP/1.1\r\n%bContent-Length: -5\r\n\r\n%b" % (HOST, C),
    "a length that is none": b"GET /livez HTTP/1.1\r\n%bContent-Length: %b\r\n\r\n" % (HOST, C),
    "a huge length": b"GET /livez HTTP/1.1\r\n%bContent-Length: 99999999999999999999\r\n\r\n%b" % (HOST, C),
    "an unknown coding": b"GET /livez HTTP/1.1\r\n%bTransfer-Encoding: %b\r\n\r\n" % (HOST, C),
    "chunked twice": b"GET /livez HTTP/1.1\r\n%bTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" % HOST,
    "chunked in another case": b"GET /livez HTTP/1.1\r\n%bTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" % HOST,
    "chunks in HTTP/1.0": b"GET /livez HTTP/1.0\r\n%bTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % HOST,
    "chunks": b"GET /livez HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % HOST,
    "chunk garbage": b"GET /livez HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\nzz%b\r\n" % (HOST, C),
    "a body": b"GET /livez HTTP/1.1\r\n%bContent-Length: 11\r\n\r\n%b" % (HOST, C),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_400_in_the_one_shape_and_comes_back_nowhere(
    tmp_path: Path, raw: bytes, caplog: pytest.LogCaptureFixture
):
    """Not in the answer, not in an event, not in a log line of the library."""
    caplog.set_level(logging.DEBUG)
    async with served(tmp_path) as api, api.connect() as client:
        client.send(raw)
        received = await client.one()

    assert_one_shape(received, 400)
    assert received.json()["error"] == "invalid_request"
    (record,) = api.events.of(RequestRefused)
    assert record.status == 400
    assert len(api.events.of(RequestAnswered)) == 1
    leaked = [received.body, repr(received.headers).encode(), repr(api.events.seen).encode(), caplog.text.encode()]
    assert not any(C in place for place in leaked)
    assert not [logged for logged in caplog.records if logged.name.startswith("aiohttp")]


SMUGGLED = request("/v1/tokens")


@pytest.mark.parametrize(
    "name", [name for name, raw in MALFORMED.items() if b"Content-Length" in raw or b"Transfer" in raw]
)
async def test_after_a_doubtful_body_nothing_on_the_connection_is_a_request(tmp_path: Path, name: str):
    """What follows could be taken for the next request by one reader and for the body by another."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(MALFORMED[name] + b"\r\n\r\n" + SMUGGLED)
        received = parse_all(await client.rest())

    assert [answer.status for answer in received] == [400]


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/", 404, "not_found"),
        ("/v1", 404, "not_found"),
        ("/v1/tokens/", 404, "not_found"),
        ("/v1/tokens/directory/exchange", 404, "not_found"),
        ("/v1/introspect", 404, "not_found"),
        ("/metrics", 404, "not_found"),
        (f"/{CANARY}", 404, "not_found"),
        (f"/v1/tokens/{CANARY}", 403, "access_denied"),
        ("/v1/tokens/%64irectory", 403, "access_denied"),
        ("/v1/tokens/directory?wait=61", 400, "invalid_request"),
        ("/v1/tokens?wait=1", 400, "invalid_request"),
    ],
)
async def test_every_refusal_has_the_one_shape(tmp_path: Path, target: str, status: int, error: str):
    """Whichever part of the broker made it."""
    async with served(tmp_path) as api:
        received = await api.get(target)

    assert_one_shape(received, status)
    assert received.json()["error"] == error
    assert C not in received.body
    assert CANARY not in repr(api.events.seen)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "QUERY"])
async def test_another_method_is_405_with_allow(tmp_path: Path, method: str):
    """TRACE does not echo, OPTIONS does not tell."""
    async with served(tmp_path) as api:
        received = await api.exchange(request("/v1/tokens/directory", f"X: {CANARY}", method=method))

    assert_one_shape(received, 405)
    assert received.headers["allow"] == "GET"
    assert C not in received.body


async def test_head_is_not_get(tmp_path: Path):
    """It is refused, by a head alone as its sender expects."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(request("/v1/tokens/directory", method="HEAD"))
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET\r\n" in head
    assert body == b""


async def test_a_request_in_http_1_0_is_answered(tmp_path: Path):
    """And its connection closed, for it knows no other."""
    async with served(tmp_path) as api:
        received = await api.exchange(b"GET /livez HTTP/1.0\r\n" + HOST + b"\r\n")

    assert received.status == 200


async def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path):
    """All of them, good and bad, and more than the library holds at a time."""
    targets = ["/livez", "/v1/tokens/directory", "/nowhere"] * 40
    raw = b"".join(b"GET %b HTTP/1.1\r\n%b\r\n" % (target.encode(), HOST) for target in targets)

    async with served(tmp_path) as api, api.connect() as client:
        client.send(raw + request("/livez"))
        received = parse_all(await client.rest())

    assert [answer.status for answer in received] == [200, 200, 404] * 40 + [200]


async def test_a_malformed_request_behind_a_good_one_is_refused_when_its_turn_comes(tmp_path: Path):
    """The good one has been answered by then."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        first = await client.one()
        client.send(b"\0\0\0\r\n\r\n")
        second = parse(await client.rest())

    assert (first.status, second.status) == (200, 400)


async def test_what_came_in_one_piece_with_garbage_is_not_carried_out(tmp_path: Path):
    """The parser gives up the whole piece: one refusal, no token that nobody could read, and the end."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(b"GET /v1/tokens/directory HTTP/1.1\r\n" + HOST + b"\r\n" + b"\0\0\0\r\n\r\n")
        received = parse_all(await client.rest())

    assert [answer.status for answer in received] == [400]
    assert api.events.of(TokenServed) == []


async def test_an_upgrade_is_not_taken(tmp_path: Path):
    """The request is answered as if it had not been asked, and so is what comes behind it."""
    upgrade = b"GET /livez HTTP/1.1\r\n%bConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % HOST

    async with served(tmp_path) as api, api.connect() as client:
        client.send(upgrade + request("/livez"))
        received = parse_all(await client.rest())

    assert [answer.status for answer in received] == [200, 200]


async def test_a_request_that_expects_to_be_asked_for_its_body_is_refused_at_once(tmp_path: Path):
    """No 100 Continue comes before the refusal."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(request("/livez", "Expect: 100-continue", "Content-Length: 5"))
        received = await client.one()

    assert_one_shape(received, 400)


async def test_a_large_body_is_413(tmp_path: Path):
    """It is refused by its announcement; nobody has to send it first."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(request("/livez", "Content-Length: 65537"))
        received = await client.one()

    assert_one_shape(received, 413)
    assert received.headers["connection"] == "close"


async def test_the_sender_of_a_refused_body_sees_the_answer(tmp_path: Path):
    """It is read on for a moment, so that no reset overtakes the answer."""
    body = b"x" * 300_000

    async with served(tmp_path) as api, api.connect() as client:
        client.send(request("/livez", f"Content-Length: {len(body)}") + body)
        received = parse(await client.rest())

    assert_one_shape(received, 413)


MAY_REFRESH = replace(EVERYBODY, may=frozenset({Action.REFRESH}))
REFRESH = "/v1/tokens/directory/refresh"
JSON = "Content-Type: application/json"
REJECTED = b'{"rejected":"W/\\"an-etag\\""}'


def post(body: bytes, *headers: str) -> bytes:
    """Write a good POST that takes a body; it does not ask for the connection to be closed."""
    lines = [f"POST {REFRESH} HTTP/1.1", "Host: localhost", JSON, f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


CHUNKED = "\r\n".join(
    [f"POST {REFRESH} HTTP/1.1", "Host: localhost", JSON, "Transfer-Encoding: chunked", "", ""]
).encode()


@pytest.mark.parametrize(
    "raw",
    [
        post(REJECTED),
        CHUNKED + b"8\r\n" + REJECTED[:8] + b"\r\n%x\r\n" % len(REJECTED[8:]) + REJECTED[8:] + b"\r\n0\r\n\r\n",
        post(REJECTED + b" " * (65_536 - len(REJECTED))),
    ],
)
async def test_a_body_is_read_to_its_end(tmp_path: Path, raw: bytes):
    """With its length told or in chunks, in one piece or byte by byte; it is the last on its connection."""
    async with served(tmp_path, workloads=(MAY_REFRESH,)) as api:
        async with api.connect() as client:
            client.send(raw)
            whole = parse(await client.rest())
        async with api.connect() as client:
            for at in range(0, len(raw), max(1, len(raw) // 200)):
                client.send(raw[at : at + max(1, len(raw) // 200)])
                await asyncio.sleep(0)
            pieces = parse(await client.rest())

    assert (whole.status, pieces.status) == (200, 200)
    assert (whole.headers["connection"], whole.rest) == ("close", b"")
    assert [rejected for _, rejected, _ in api.tokens.forced] == ["an-etag"] * 2


async def test_a_request_without_a_body_needs_none(tmp_path: Path):
    """And its connection goes on."""
    bare = f"POST {REFRESH} HTTP/1.1\r\nHost: localhost\r\n".encode()
    async with served(tmp_path, workloads=(MAY_REFRESH,)) as api, api.connect() as client:
        client.send(bare + b"\r\n" + bare + b"Content-Length: 0\r\n\r\n" + request("/livez"))
        received = parse_all(await client.rest())

    assert [answer.status for answer in received] == [200, 200, 200]
    assert [rejected for _, rejected, _ in api.tokens.forced] == [None, None]


@pytest.mark.parametrize("expected", ["100-continue", "100-Continue"])
async def test_a_sender_that_waits_to_be_asked_for_its_body_is_asked(tmp_path: Path, expected: str):
    """And one that is refused by its announcement is not."""
    raw = post(REJECTED, f"Expect: {expected}")
    async with served(tmp_path, workloads=(MAY_REFRESH,)) as api, api.connect() as client:
        client.send(raw.removesuffix(REJECTED))
        asked = await client.reader.readuntil(b"\r\n\r\n")
        client.send(REJECTED)
        received = parse(await client.rest())

    assert (asked, received.status) == (b"HTTP/1.1 100 Continue\r\n\r\n", 200)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (post(b'{"rejected":"%b"}' % C), 400),
        (post(b'{"%b":1}' % C), 400),
        (post(b'{"rejected":NaN,"a":"%b"}' % C), 400),
        (post(b'{"rejected":"%b","rejected":"b"}' % C), 400),
        (post(C).replace(b"application/json", b"text/plain"), 415),
        (post(b"x" * 65_537), 413),
        (post(REJECTED, "Expect: 200-ok"), 400),
        (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", 400),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
        (CHUNKED + b"10001\r\n" + b"x" * 65_537 + b"\r\n0\r\n\r\n", 413),
        (CHUNKED + b"%b\r\n\r\n" % C, 400),
        (CHUNKED + b"2\r\n{}%b\r\n0\r\n\r\n" % C, 400),
    ],
)
async def test_a_bad_body_is_refused_in_the_one_shape(tmp_path: Path, raw: bytes, status: int):
    """Nothing of it comes back, nothing behind it is taken for a request, and no token is fetched for it."""
    async with served(tmp_path, workloads=(MAY_REFRESH,)) as api, api.connect() as client:
        client.send(raw + request("/livez"))
        received = parse(await client.rest())

    assert_one_shape(received, status)
    assert C not in received.body + received.rest
    assert received.rest == b""
    assert CANARY not in repr(api.events.seen)
    assert api.tokens.forced == []


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_body_that_turns_bad_is_refused_at_once(tmp_path: Path, pause: float):
    """Its sender does not wait for a deadline to be told that it is no HTTP, and nothing behind it is read."""
    async with served(tmp_path, workloads=(MAY_REFRESH,)) as api, api.connect() as client:
        client.send(CHUNKED + b"2\r\n{}\r\n")
        await asyncio.sleep(pause)
        began = asyncio.get_running_loop().time()
        client.send(b"zz%b\r\n" % C + request("/livez"))
        received = parse(await client.rest())
        took = asyncio.get_running_loop().time() - began

    assert_one_shape(received, 400)
    assert received.rest == b""
    assert took < 1.0
    assert api.events.of(UnexpectedFailure) == []
    assert [event.reason for event in api.events.of(RequestRefused)] == ["malformed"]


async def test_a_body_that_turns_bad_before_its_request_is_looked_at_is_refused_at_once(tmp_path: Path):
    """It waits behind another request."""
    async with served(tmp_path, workloads=(EVERYBODY, MAY_REFRESH)) as api, api.connect() as client:
        api.tokens.held = asyncio.Event()
        client.send(b"GET /v1/tokens/directory HTTP/1.1\r\nHost: localhost\r\n\r\n" + CHUNKED + b"2\r\n{}\r\n")
        await asyncio.sleep(0.05)
        client.send(b"zz%b\r\n" % C)
        await asyncio.sleep(0.05)
        api.tokens.held.set()
        first, second = parse_all(await client.rest())

    assert first.status == 200
    assert_one_shape(second, 400)
    assert [event.reason for event in api.events.of(RequestRefused)] == ["malformed"]


async def test_a_body_that_turns_bad_behind_its_answer_is_nobodys_concern(tmp_path: Path):
    """What a refused request still sends is dropped, whatever it is."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        answer = await client.one()
        client.send(b"zz%b\r\n" % C)
        rest = await client.rest()

    assert_one_shape(answer, 400)
    assert rest == b""
    assert api.events.of(UnexpectedFailure) == []


async def test_a_body_that_does_not_come_is_408(tmp_path: Path):
    """Its time is that of the whole request."""
    async with served(tmp_path, workloads=(MAY_REFRESH,), limits=QUICK) as api, api.connect() as client:
        began = asyncio.get_running_loop().time()
        client.send(post(REJECTED)[:-1])
        received = await client.one()
        took = asyncio.get_running_loop().time() - began

    assert_one_shape(received, 408)
    assert took < 5.0
    assert api.tokens.forced == []


async def test_a_caller_that_goes_away_in_the_middle_of_its_body_leaves_nothing(tmp_path: Path):
    """And is no bug."""
    async with served(tmp_path, workloads=(MAY_REFRESH,)) as api:
        async with api.connect() as client:
            client.send(post(REJECTED)[:-1])
            await asyncio.sleep(0.05)
        assert (await api.get("/livez")).status == 200

    assert api.events.of(UnexpectedFailure) == []
    assert api.tokens.forced == []


async def test_not_modified_has_no_body_and_its_connection_goes_on(tmp_path: Path):
    """Nor does it say how long the body is that it has not (RFC 9110 section 15.4.5)."""
    conditional = b"GET /v1/tokens/directory HTTP/1.1\r\n" + HOST + b'If-None-Match: W/"an-etag"\r\n\r\n'
    async with served(tmp_path) as api, api.connect() as client:
        client.send(conditional + request("/livez"))
        head, _, after = (await client.rest()).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert b'ETag: W/"an-etag"' in head
    assert b"Cache-Control: no-store" in head
    assert b"Content-" not in head
    assert parse(after).status == 200
    assert api.events.of(TokenServed) == []
    assert [event.outcome for event in api.events.of(RequestAnswered)] == ["not_modified", "ok"]


def head_of(size: int) -> bytes:
    """Write a good request whose head has *size* bytes."""
    start, end = b"GET /livez HTTP/1.1\r\n%bConnection: close\r\nX: " % HOST, b"\r\n\r\n"
    return start + b"a" * (size - len(start) - len(end)) + end


async def test_a_head_may_have_8_kib(tmp_path: Path):
    """To the byte."""
    async with served(tmp_path) as api:
        received = [(await api.exchange(head_of(size))).status for size in (MAX_HEAD, MAX_HEAD + 1)]

    assert received == [200, 431]


TOO_LARGE = {
    "one header": head_of(9_000),
    "many headers": b"GET /livez HTTP/1.1\r\n%b%b\r\n" % (HOST, b"X: %b\r\n" % C * 600),
    "tiny headers": b"GET /livez HTTP/1.1\r\n%b%b\r\n" % (HOST, b"X:\r\n" * 3_000),
    "target": b"GET /%b HTTP/1.1\r\n%b\r\n" % (C * 1_000, HOST),
    "header name": b"GET /livez HTTP/1.1\r\n%b%b: x\r\n\r\n" % (HOST, C * 1_000),
    "no end": b"GET /livez HTTP/1.1\r\n%bX: %b" % (HOST, C * 1_000),
    "much more": b"GET /livez HTTP/1.1\r\n%bX: %b" % (HOST, C * 100_000),
    "no request line": C * 1_000,
}


@pytest.mark.parametrize("raw", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_a_head_above_8_kib_is_431(tmp_path: Path, raw: bytes, caplog: pytest.LogCaptureFixture):
    """However it gets there; it is not parsed, not echoed, not logged."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(raw)
        received = parse(await client.rest())

    assert_one_shape(received, 431)
    assert received.headers["connection"] == "close"
    assert C not in received.body
    assert CANARY not in repr(api.events.seen)
    assert caplog.text == ""


async def test_a_head_that_grows_in_pieces_is_431(tmp_path: Path):
    """As soon as it is too large, without waiting for its end."""
    async with served(tmp_path) as api, api.connect() as client:
        for piece in (b"GET /livez HTTP/1.1\r\n" + HOST, *[b"X: " + b"a" * 1_000 + b"\r\n"] * 9):
            client.send(piece)
            await asyncio.sleep(0.001)
        received = parse(await client.rest())

    assert_one_shape(received, 431)


async def test_a_head_that_grows_behind_a_waiting_request_ends_the_connection(tmp_path: Path):
    """Its memory is capped, too; the request that waits is answered first."""
    tokens = FakeTokens(held=asyncio.Event())
    async with served(tmp_path, tokens) as api, api.connect() as client:
        client.send(b"GET /v1/tokens/directory HTTP/1.1\r\n" + HOST + b"\r\n")
        await until(lambda: tokens.asked)
        for _ in range(20):
            client.send(b"X: " + b"a" * 1_000 + b"\r\n")
            await asyncio.sleep(0.001)
        assert tokens.held is not None
        tokens.held.set()
        received = parse_all(await client.rest())

    assert [answer.status for answer in received] == [200]
    assert received[0].headers["connection"] == "close"


async def test_a_second_head_that_is_too_large_is_431(tmp_path: Path):
    """Whether one of its headers is too large, or all of them together; it came in one piece with the first."""
    first = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    many = b"GET /livez HTTP/1.1\r\n%b%b\r\n" % (HOST, b"X: %b\r\n" % C * 600)
    async with served(tmp_path) as api:
        statuses = []
        for raw in (first + many, first + head_of(20_000)):
            async with api.connect() as client:
                client.send(raw)
                statuses.append([answer.status for answer in parse_all(await client.rest())])

    assert statuses == [[200, 431], [431]]


async def test_a_head_that_drips_has_a_deadline(tmp_path: Path):
    """From its first byte, however often another one comes: 408 in the one shape."""
    loop = asyncio.get_running_loop()
    async with served(tmp_path, limits=QUICK) as api, api.connect() as client:
        began = loop.time()
        dripping = asyncio.timeout(5)
        async with dripping:
            for byte in request("/livez", "X: " + "a" * 200):
                if client.reader._buffer or client.reader.at_eof():  # type: ignore[attr-defined]
                    break
                client.send(bytes([byte]))
                await asyncio.sleep(0.01)
        received = parse(await client.rest())

    assert_one_shape(received, 408)
    assert received.headers["connection"] == "close"
    assert QUICK.request_deadline <= loop.time() - began < QUICK.request_deadline + 1.0
    (record,) = api.events.of(RequestRefused)
    assert (record.status, record.reason, record.uid is not None) == (408, "too_slow", True)


async def test_the_beginning_of_a_second_request_has_the_same_deadline(tmp_path: Path):
    """Whether it came behind the first or in one piece with it."""
    first = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    async with served(tmp_path, limits=QUICK) as api:
        async with api.connect() as client:
            client.send(first + b"GET /li")
            together = parse_all(await client.rest())
        async with api.connect() as client:
            client.send(first)
            await client.one()
            client.send(b"GET /li")
            apart = parse_all(await client.rest())

    assert [answer.status for answer in together] == [200, 408]
    assert [answer.status for answer in apart] == [408]


async def test_a_body_that_drips_is_not_waited_for(tmp_path: Path):
    """The route takes none, so it is refused when it is announced, and soon closed."""
    async with served(tmp_path, limits=QUICK) as api, api.connect() as client:
        client.send(request("/livez", "Content-Length: 100") + b"x")
        received = await client.one()

    assert_one_shape(received, 400)


async def test_a_connection_that_says_nothing_is_closed_without_a_word(tmp_path: Path):
    """At first, and after an answer; nothing was asked, so nothing was refused."""
    async with served(tmp_path, limits=QUICK) as api:
        async with api.connect() as client:
            silent = await client.rest()
        async with api.connect() as client:
            client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
            await client.one()
            later = await client.rest()

    assert (silent, later) == (b"", b"")
    assert api.events.of(RequestRefused) == []


async def test_a_good_client_may_take_its_time_between_requests(tmp_path: Path):
    """Longer than a request may take, for it has not begun one."""
    limits = Limits(request_deadline=0.3, idle_timeout=5.0)
    async with served(tmp_path, limits=limits) as api, api.connect() as client:
        for _ in range(2):
            client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
            assert (await client.one()).status == 200
            await asyncio.sleep(0.4)

    assert api.events.of(RequestRefused) == []


async def test_waiting_for_a_token_is_not_being_slow(tmp_path: Path):
    """The request arrived whole; how long it waits is its own wish."""
    tokens = FakeTokens({"directory": unavailable()}, held=asyncio.Event())
    limits = Limits(request_deadline=0.2, idle_timeout=0.2)
    async with served(tmp_path, tokens, limits=limits) as api, api.connect() as client:
        client.send(request())
        await asyncio.sleep(0.5)
        assert tokens.held is not None
        tokens.held.set()
        received = parse(await client.rest())

    assert received.status == 503


async def test_a_client_that_does_not_read_is_cut(tmp_path: Path):
    """Its answer does not stay in memory for ever."""
    huge = serving(access_token=AccessToken("x" * 4_000_000))
    async with served(tmp_path, FakeTokens({"directory": huge}), limits=QUICK) as api, api.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(request())
        await asyncio.sleep(QUICK.write_deadline + 0.2)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        raw = await client.rest()

    assert len(raw) < 4_000_000


async def test_a_client_that_reads_slowly_but_in_time_gets_everything(tmp_path: Path):
    """The deadline is for the answer, not for each piece of it."""
    large = serving(access_token=AccessToken("x" * 1_000_000))
    patient = Limits(write_deadline=5.0)
    async with served(tmp_path, FakeTokens({"directory": large}), limits=patient) as api, api.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(request())
        await asyncio.sleep(0.05)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = parse(await client.rest())

    assert len(received.json()["access_token"]) == 1_000_000


async def test_a_client_that_goes_away_frees_its_place(tmp_path: Path):
    """Its handler is cancelled at once, not at the end of its wait."""
    tokens = FakeTokens(held=asyncio.Event())
    async with served(tmp_path, tokens, limits=Limits(max_waiting=1)) as api:
        async with api.connect() as client:
            client.send(request())
            await until(lambda: tokens.asked)
        await until(lambda: tokens.cancelled)

        tokens.held = None
        assert (await api.get()).status == 200


async def test_an_old_connection_ends_with_its_next_answer(tmp_path: Path):
    """Who is at its other end was found out long ago."""
    async with served(tmp_path, limits=Limits(max_connection_age=0.0)) as api, api.connect() as client:
        client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        received = parse(await client.rest())

    assert received.status == 200
    assert received.headers["connection"] == "close"


async def test_a_bug_in_the_lifecycle_is_500_and_reported_without_its_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """The caller gets the incident, the log types and lines."""
    tokens = FakeTokens({"directory": ValueError(CANARY)})
    async with served(tmp_path, tokens) as api:
        received = await api.get()

    (failure,) = api.events.of(UnexpectedFailure)
    assert_one_shape(received, 500)
    assert failure.incident in received.json()["hint"]
    assert CANARY not in repr(api.events.seen) + received.body.decode() + caplog.text


async def test_a_hundred_connections_that_only_sit_there_do_not_slow_a_good_one(tmp_path: Path):
    """They cost a timer each."""
    async with served(tmp_path) as api:
        idle = [await asyncio.open_unix_connection(api.path) for _ in range(100)]
        try:
            async with asyncio.timeout(5.0):
                statuses = [(await api.get()).status for _ in range(20)]
        finally:
            for _, writer in idle:
                writer.transport.abort()

    assert statuses == [200] * 20


class BrokenDesk:
    """A desk that breaks its promise never to raise."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.bugs: list[tuple[str, str]] = []

    async def answer(self, incoming: Incoming, peer: Peer, read_body: ReadBody, body: Body | None = None) -> Answer:
        raise self.error

    def learn(self, recall: Recall, piece: bytes, incoming: Incoming, *, last: bool) -> None:
        """Keep nothing."""

    def turn(self) -> int:
        return 0

    def answer_at_once(self, turn: int, asked: Asked) -> Sequence[Offer | None]:
        raise AssertionError("nothing was parsed")

    def refuse(self, problem: Problem, peer: Peer) -> Answer:
        return problem_answer(problem)

    def report_bug(self, where: str, error: BaseException) -> str:
        self.bugs.append((where, type(error).__name__))
        return "incident-7"


def connection_to(desk: BrokenDesk) -> Connection:
    engine = Engine(desk, Limits())
    return engine.connection(Peer(listener="app"), ConnectionLedger(Limits()).admit(None))


@contextlib.asynccontextmanager
async def wired(desk: BrokenDesk) -> AsyncIterator[tuple[Connection, socket.socket]]:
    """Give a connection at work and the other end of its socket."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs:
        transport, connection = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection_to(desk), ours
        )
        yield connection, theirs
        transport.abort()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("error", [ValueError(CANARY), TimeoutError(CANARY)])
async def test_what_escapes_the_desk_is_still_an_answer_in_the_one_shape(
    error: Exception, caplog: pytest.LogCaptureFixture
):
    """The library would have answered in its own, and logged a traceback."""
    desk = BrokenDesk(error)
    loop = asyncio.get_running_loop()
    async with wired(desk) as (_, theirs):
        await loop.sock_sendall(theirs, request("/livez"))
        received = parse(await loop.sock_recv(theirs, 65_536))

    assert_one_shape(received, 500)
    assert "incident-7" in received.json()["hint"]
    assert len(desk.bugs) == 1
    assert CANARY not in caplog.text


@pytest.mark.parametrize("raw", [request("/livez"), b"\0\r\n\r\n"], ids=["whole", "malformed"])
async def test_a_request_that_comes_whole_in_the_moment_of_its_deadline_has_one_answer(raw: bytes):
    """It was parsed, but not yet handled: the 408 is on its way, and nothing may follow it."""
    desk = BrokenDesk(ValueError())
    loop = asyncio.get_running_loop()
    async with wired(desk) as (connection, theirs):
        connection.data_received(raw)
        connection._too_slow()
        await asyncio.sleep(0.01)
        answers = parse_all(await loop.sock_recv(theirs, 65_536))
        end = await loop.sock_recv(theirs, 65_536)

    assert [answer.status for answer in answers] == [408]
    assert end == b""
    assert desk.bugs == []


async def test_what_the_library_would_log_is_reported_as_ours_is(caplog: pytest.LogCaptureFixture):
    """Its words hold bytes of the request: they are dropped."""
    desk = BrokenDesk(ValueError())
    connection = connection_to(desk)
    caplog.set_level(logging.DEBUG)

    connection.log_exception("Unhandled exception: %s", CANARY, exc_info=KeyError(CANARY))
    try:
        int(CANARY)
    except ValueError:
        connection.log_exception(CANARY)
    connection.log_exception(CANARY)
    connection.log_debug(CANARY)

    assert desk.bugs == [("http", "KeyError"), ("http", "ValueError"), ("http", "RuntimeError")]
    assert caplog.text == ""


async def test_an_answer_that_was_begun_is_not_followed_by_another():
    """It could be taken for a part of the first."""
    connection = connection_to(BrokenDesk(ValueError()))
    begun = make_mocked_request("GET", "/livez")
    begun.writer.output_size = 10

    with pytest.raises(ConnectionError):
        connection.handle_error(begun, 500, ValueError())


async def test_cutting_a_connection_that_never_began_is_nothing():
    """There is no transport to cut."""
    connection_to(BrokenDesk(ValueError())).abort()


async def test_a_body_behind_another_request_has_the_same_deadline(tmp_path: Path):
    """From when its turn came, however long the connection might have been idle."""
    limits = replace(QUICK, idle_timeout=30.0)
    first = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    async with served(tmp_path, workloads=(MAY_REFRESH,), limits=limits) as api, api.connect() as client:
        began = asyncio.get_running_loop().time()
        client.send(first + post(REJECTED).removesuffix(REJECTED))
        received = parse_all(await client.rest())
        took = asyncio.get_running_loop().time() - began

    assert [answer.status for answer in received] == [200, 408]
    assert took < 5.0


async def test_a_body_of_somebody_who_may_not_send_it_is_not_waited_for(tmp_path: Path):
    """Who may not ask for what it is about holds no place by sending it slowly."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(post(REJECTED).removesuffix(REJECTED))
        received = await client.one()

    assert_one_shape(received, 403)


@pytest.mark.parametrize("behind", [0, 1, 32, 100])
async def test_a_client_that_goes_away_frees_its_place_whatever_it_sent_behind(tmp_path: Path, behind: int):
    """The library reads no further with so many requests in hand, and so does not see the end by itself."""
    tokens = FakeTokens(held=asyncio.Event())
    async with served(tmp_path, tokens, limits=Limits(max_waiting=1, max_connections=1)) as api:
        async with api.connect() as client:
            client.send((b"GET /v1/tokens/directory HTTP/1.1\r\n" + HOST + b"\r\n") * (1 + behind))
            await until(lambda: tokens.asked)
        await until(lambda: tokens.cancelled)

        tokens.held = None
        await asyncio.sleep(0.01)
        assert (await api.get()).status == 200


async def test_a_client_that_goes_away_with_a_large_body_behind_frees_its_place(tmp_path: Path):
    """Nor does it read a body that nobody takes yet."""
    tokens = FakeTokens(held=asyncio.Event())
    async with served(tmp_path, tokens) as api:
        async with api.connect() as client:
            client.send(b"GET /v1/tokens/directory HTTP/1.1\r\n" + HOST + b"\r\n" + post(b"x" * 1_000_000))
            await until(lambda: tokens.asked)
            await asyncio.sleep(0.05)
        await until(lambda: tokens.cancelled)


@pytest.mark.parametrize("name", ["nonsense", "no version", "two lengths", "TLS", "NUL in a header"])
async def test_what_was_not_understood_is_answered_in_our_version(tmp_path: Path, name: str):
    """And the connection ends."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(MALFORMED[name])
        raw = await client.rest()

    assert raw.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in raw


@pytest.mark.parametrize(("whole", "status"), [(False, 408), (True, 503)])
async def test_a_request_that_has_not_come_whole_does_not_delay_the_end(tmp_path: Path, whole: bool, status: int):
    """Neither a slow head nor a slow body keeps the broker running for its deadline."""
    loop = asyncio.get_running_loop()
    head = post(REJECTED).removesuffix(REJECTED)
    limits = Limits(request_deadline=60.0)
    async with served(tmp_path, workloads=(MAY_REFRESH,), limits=limits) as api, api.connect() as client:
        client.send(head if whole else head[:-4])
        await asyncio.sleep(0.05)
        began = loop.time()
        await api.server.drain(30.0)
        took = loop.time() - began
        received = parse(await client.rest())

    assert_one_shape(received, status)
    assert took < 5.0


class Guarded(BrokenDesk):
    """A desk that wants a secret."""

    async def answer(self, incoming: Incoming, peer: Peer, read_body: ReadBody, body: Body | None = None) -> Answer:
        return problem_answer(problems.SECRET_WRONG)


async def test_who_does_not_have_the_secret_is_not_read_on():
    """Its place is wanted: it goes with the answer, whatever it has announced."""
    loop = asyncio.get_running_loop()
    async with wired(Guarded(ValueError())) as (_, theirs):
        began = loop.time()
        await loop.sock_sendall(theirs, request("/livez", "Content-Length: 1000"))
        received = parse(await loop.sock_recv(theirs, 65_536))
        end = await loop.sock_recv(theirs, 65_536)

    assert_one_shape(received, 401)
    assert end == b""
    assert loop.time() - began < LINGERING / 2
