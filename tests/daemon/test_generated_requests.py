"""
Requests that nobody thought of: made from the OpenAPI document, and raw bytes that are nearly HTTP.

Against a real broker on a real socket. Whatever comes in: no 500, no echo of it in any answer or log, no hang,
and the next caller is served. The inputs are the same in each run and few; raise EXAMPLES to look for more.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from broker.api.routes import API_ROUTES
from broker.api.table import PLACEHOLDER
from tests.daemon.harness import CANARY, BrokerProcess, broker_process, exchange, get, sandbox_process, split

EXAMPLES = 15
"""Of each operation, good and bad."""

BATCHES = 45
"""Of connections on which raw bytes are sent."""

BATCH = 8
"""Connections that are open side by side: those on which nothing ends wait for the deadline together."""

HANG = 8.0
"""Seconds after which an answer is taken to be missing; the broker gives a request one second to arrive."""

QUIET = 0.1
"""Seconds without a byte after a whole answer: there is no other one."""

BROKER_ERRORS = {502, 503}
"""What the document has of 5xx for reasons other than bugs."""

BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with sandbox_process(tmp_path_factory.mktemp("generated"), lifetime=600) as sandbox:
        config = (sandbox.home / "config.toml").read_text()
        config = config.replace('may = ["get"]', 'may = ["get", "refresh"]')
        with broker_process(sandbox, config=config + "\n[daemon]\nrequest_seconds = 1\n") as running:
            yield running


def is_sound(broker: BrokerProcess) -> None:
    """Fail unless the broker serves as before and had no surprise."""
    assert broker.token().status == 200
    assert broker.log("unexpected_failure") == []
    assert broker.log("library_reported") == []
    assert CANARY not in broker.said()
    assert CANARY not in broker.audit.read_text()


# --- requests made from the document ---

Case = schemathesis.Case[Any]


def described(broker: BrokerProcess) -> Any:
    return schemathesis.openapi.from_dict(get(broker.socket, "/openapi.json").json())


def written(case: Case) -> tuple[bytes, requests.PreparedRequest]:
    """Write a generated request as it is: the library would tidy its path."""
    arguments: dict[str, Any] = case.as_transport_kwargs(base_url="http://localhost")
    prepared = requests.Request(
        **{name: arguments[name] for name in ("method", "url", "params", "data", "json") if name in arguments}
    ).prepare()
    query = (prepared.url or "").partition("?")[2]
    target = case.formatted_path + (f"?{query}" if query else "")
    given_body: Any = prepared.body or b""
    body: bytes = given_body.encode() if isinstance(given_body, str) else given_body
    headers = {name: value for name, value in arguments["headers"].items() if name.lower() != "content-length"}
    headers |= {"Host": "localhost", "Connection": "close", "X-Canary": CANARY}
    headers |= {"Content-Length": str(len(body))} if body else {}
    lines = [f"{case.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body, prepared


def strings_in(value: Any) -> Iterator[str]:
    """Give every string that was made up, members' names too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from strings_in(name)
            yield from strings_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner)
    elif isinstance(value, str):
        yield value


PAGES = Path(__file__).parents[2] / "docs" / "reference"

OWN_WORDS = "Connection: keep-alive" + "".join((PAGES / name).read_text() for name in ("api.md", "errors.md"))
"""What answers may say by themselves: hypothesis tries words of the source."""


def check(broker: BrokerProcess, case: Case, *more: Any) -> None:
    """Send a request and hold its answer to the document."""
    if isinstance(case.query.get("wait"), int):
        case.query["wait"] %= 2  # the others would only wait longer
    raw, prepared = written(case)

    received = exchange(broker.socket, raw, timeout=HANG)

    answer = split(received)
    case.validate_response(
        schemathesis.Response(
            status_code=answer.status,
            headers={name: [value] for name, value in answer.headers.items()},
            content=answer.body,
            request=prepared,
            elapsed=0.0,
            verify=False,
        ),
        checks=[
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_headers_conformance,
            checks.response_schema_conformance,
            *more,
        ],
    )
    assert answer.status < 500 or answer.status in BROKER_ERRORS
    given_by_us = [case.path_parameters, case.query, dict(case.headers or {}), case.body]
    said = received.decode("latin-1")
    made_up = {text for text in strings_in(given_by_us) if len(text) >= 6 and text not in OWN_WORDS}
    echoed = {text for text in made_up | {CANARY} if text in said}
    assert echoed == set(), raw


KNOWN_NAME = {"name": "demo", "client": "demo", "id": "an-id"}
"""What the sandbox's configuration calls its token and its client; ids are given by chance, so that there is none."""

OPERATIONS = pytest.mark.parametrize(("method", "path"), [(route.method, route.template) for route in API_ROUTES])


@OPERATIONS
def test_good_requests_get_what_the_document_says(broker: BrokerProcess, method: str, path: str):
    """Status, media type, headers and body of every operation."""
    operation = described(broker)[path][method]

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def answered(case: Case) -> None:
        check(broker, case, checks.positive_data_acceptance)

    answered()
    is_sound(broker)


NAMED = [route for route in API_ROUTES if "{" in route.template]


@pytest.mark.parametrize(("method", "path"), [(route.method, route.template) for route in NAMED])
def test_good_requests_for_what_there_is_get_what_the_document_says(broker: BrokerProcess, method: str, path: str):
    """With the name of a token or client that the caller may have."""
    placeholder = PLACEHOLDER.search(path)
    assert placeholder is not None
    name = placeholder.group().strip("{}")
    operation = described(broker)[path][method]

    @BOUNDED
    @given(
        case=operation.as_strategy(
            generation_mode=schemathesis.GenerationMode.POSITIVE, path_parameters={name: KNOWN_NAME[name]}
        )
    )
    def answered(case: Case) -> None:
        check(broker, case, checks.positive_data_acceptance)

    answered()
    is_sound(broker)


TAKING = [route for route in API_ROUTES if "{" in route.template or route.parameters or route.body]


@pytest.mark.parametrize(("method", "path"), [(route.method, route.template) for route in TAKING])
def test_bad_requests_get_what_the_document_says(broker: BrokerProcess, method: str, path: str):
    """Names, numbers and bodies that the document does not allow."""
    operation = described(broker)[path][method]

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))
    def answered(case: Case) -> None:
        check(broker, case, checks.negative_data_rejection)

    answered()
    is_sound(broker)


# --- raw bytes ---

C = CANARY.encode()

METHODS = [b"HEAD", b"get", b"TRACE", b"CONNECT", b"OPTIONS", b"PUT", b"DELETE", b"", C, b"GET\0", b"G" * 99]

TARGETS = [
    b"/readyz/" + C,
    b"/v1/tokens/" + C,
    b"/v1/jwks/" + C,
    b"/" + C,
    b"/v1/tokens/demo?wait=" + C,
    b"/v1/tokens/demo?" + C + b"=1",
    b"/v1/tokens/demo#" + C,
    b"/v1/../" + C,
    b"/v1//tokens/" + C,
    b"/v1/tokens/%2e%2e/" + C,
    b"/v1/tokens/%00" + C,
    b"/v1/tokens/%zz" + C,
    b"/v1/tokens/\xff\xfe" + C,
    b"/v1/tokens/\0" + C,
    b"http://localhost/v1/tokens/demo?" + C,
    b"http://" + C + b"/",
    b"//" + C + b"/v1/tokens",
    b"localhost:80",
    b"*",
    b"",
    b"/" + C * 500,
]

VERSIONS = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1\0", b"HTTP/" + C, b"", b"http/1.1"]

HEADERS = [
    b"Host: localhost",
    b"Accept: text/plain",
    b"X-Canary: " + C,
    C + b": 1",
    b"X-Canary: " + C + b"\0",
    b"X-Canary: a\r\n " + C,
    b"X-Canary: a\n" + C + b": b",
    b"X-Canary",
    b": " + C,
    b"\0" + C + b": 1",
    b"X-Canary: \xff\xfe" + C,
    b"X-Canary: " + C * 400,
    b"X: " + C + b"\r\nY: z" * 300,
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: 5, 6",
    b"Content-Length: +5",
    b"Content-Length: -1",
    b"Content-Length: 0x5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: " + C,
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: " + C,
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Content-Type: application/json",
    b"Content-Type: application/json; charset=" + C,
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate",
    b"Expect: 100-continue",
    b"Expect: " + C,
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: " + C,
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: " + C,
    b"Origin: http://" + C,
    b"X_Forwarded_For: " + C,
    b"If-None-Match: " + C,
    b'If-None-Match: W/"' + C + b'"',
    b"If-None-Match: *",
    b"Accept: " + C,
    b"Accept: text/plain;q=" + C,
    b"Authorization: Bearer " + C,
    b"Cookie: " + C,
]

BODIES = [
    *[b""] * 4,
    b'{"rejected":"' + C + b'"}',
    b'{"' + C + b'":1}',
    b"[" * 5000,
    C,
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;" + C + b"=1\r\nhello\r\n0\r\nX-Canary: " + C + b"\r\n\r\n",
    b"0\r\n\r\n",
    b"FFFFFFFFFFFFFFFFF\r\n" + C,
    b"-5\r\n" + C + b"\r\n0\r\n\r\n",
    b"zz\r\n" + C,
    b"5\nhello\n0\n\n",
    b"\x1f\x8b" + C,
    C * 4000,
]


@dataclass(frozen=True)
class Stream:
    """What is sent on one connection, in *pieces*; *ends*: the sending side is closed then."""

    pieces: tuple[bytes, ...]
    ends: bool

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


@st.composite
def one_request(draw: Callable[[Any], Any]) -> bytes:
    """Write a request that is well-formed but for one part of its line, some headers and its body, or in all."""
    odd = draw(st.sampled_from(["", "", "method", "target", "version", "newline", "space", "host"]))

    def part(name: str, good: list[bytes], bad: list[bytes]) -> bytes:
        chosen: bytes = draw(st.sampled_from(bad if odd == name else good))
        return chosen

    newline = part("newline", [b"\r\n"], [b"\n", b"\r"])
    line = part("space", [b" "], [b"\t", b"  ", b""]).join(
        (
            part("method", [b"GET", b"GET", b"POST"], METHODS),
            part("target", [b"/v1/tokens/demo", b"/v1/tokens/demo/refresh", b"/v1/tokens"], TARGETS),
            part("version", [b"HTTP/1.1"], VERSIONS),
        )
    )
    headers = [part("host", [b"Host: localhost"], [b"Host: " + C, b"Host : localhost", b"X-Canary: " + C])]
    headers += draw(st.lists(st.sampled_from(HEADERS), max_size=2))
    body: bytes = draw(st.sampled_from(BODIES))
    if body and draw(st.booleans()):
        headers += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return newline.join([line, *headers, b"", b""]) + body


def damaged(raw: bytes, at: int, junk: bytes, *, instead: bool) -> bytes:
    """Put *junk* in at a place, or in place of a byte."""
    place = at % (len(raw) + 1)
    return raw[:place] + junk + raw[place + instead :]


@st.composite
def streams(draw: Callable[[Any], Any]) -> Stream:
    """Write one to three requests, damage them or not, and cut them into pieces."""
    raw = b"".join(draw(st.lists(one_request(), min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        junk = draw(st.sampled_from([b"", b"\0", b"\r", b"\n", b"\r\n\r\n", b" ", b"\xff", b":", C, b"0" * 40]))
        raw = damaged(raw, draw(st.integers(0, 2**16)), junk, instead=draw(st.booleans()))
    cuts = sorted({cut % (len(raw) + 1) for cut in draw(st.lists(st.integers(0, 2**16), max_size=3))})
    pieces = tuple(raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True))
    return Stream(tuple(piece for piece in pieces if piece), ends=draw(st.sampled_from([False, False, False, True])))


def whole_answers(received: bytes, *, bodiless: bool) -> list[tuple[int, dict[str, str], bytes]] | None:
    """
    Take *received* apart into answers; None if the last one is not whole.

    Fails for what is no answer at all. *bodiless*: there may be answers to HEAD, which announce a body only.
    """
    answers = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            return None
        status_line, *lines = head.decode("ascii").split("\r\n")
        version, status, _ = status_line.split(" ", 2)
        assert version in {"HTTP/1.1", "HTTP/1.0"}, status_line
        assert all(": " in line for line in lines), lines
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if status == "304" else int(headers["content-length"])
        if bodiless and (not rest or rest.startswith(b"HTTP/1.")):
            length = 0
        if len(rest) < length:
            return None
        answers.append((int(status), headers, rest[:length]))
        received = rest[length:]
    return answers


async def played(path: Path, stream: Stream) -> bytes:
    """
    Send *stream* and give what comes back until the connection ends, or nothing more is due.

    On the socket itself: asyncio's streams forget what came before a write failed.
    """
    loop = asyncio.get_running_loop()
    received = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        async with asyncio.timeout(HANG):
            await loop.sock_connect(connection, str(path))
            with suppress(ConnectionError):  # it has its answer already, and wants no more
                for piece in stream.pieces:
                    await loop.sock_sendall(connection, piece)
                    await asyncio.sleep(0.002)
                if stream.ends:
                    connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while piece := await _next(connection, is_last=is_whole(received, stream)):
                    received += piece
    return received


async def _next(connection: socket.socket, *, is_last: bool) -> bytes:
    """Receive; after a whole answer only what follows at once."""
    try:
        async with asyncio.timeout(QUIET if is_last else None):
            return await asyncio.get_running_loop().sock_recv(connection, 65_536)
    except TimeoutError:
        if is_last:
            return b""
        raise


def is_whole(received: bytes, stream: Stream) -> bool:
    return bool(received) and whole_answers(received, bodiless=b"HEAD" in stream.raw) is not None


async def side_by_side(path: Path, batch: list[Stream]) -> list[bytes]:
    return await asyncio.gather(*(played(path, stream) for stream in batch))


def judge(stream: Stream, received: bytes) -> None:
    """Fail unless *received* is a well-formed answer in the one shape, or a clean end."""
    assert C not in received
    answers = whole_answers(received, bodiless=b"HEAD" in stream.raw)
    assert answers is not None, received
    assert answers or stream.ends, "whoever waits for an answer gets one"
    for status, headers, body in answers:
        assert status < 500 or status in BROKER_ERRORS, (status, body)
        assert headers["cache-control"] == "no-store"
        if status < 400 or not body:
            continue
        assert headers["content-type"] == "application/json"
        members = json.loads(body)
        assert {"error", "error_description"} <= set(members) <= {"error", "error_description", "hint", "server_error"}


def test_bytes_that_are_nearly_requests_are_answered_in_the_one_shape_or_not_at_all(broker: BrokerProcess):
    """Within a deadline, without an echo; and who asks properly is served afterwards as before."""

    @settings(BOUNDED, max_examples=BATCHES)
    @given(batch=st.lists(streams(), min_size=BATCH, max_size=BATCH))
    def survived(batch: list[Stream]) -> None:
        outcomes = asyncio.run(side_by_side(broker.socket, batch))

        for stream, received in zip(batch, outcomes, strict=True):
            judge(stream, received)
        assert broker.token().status == 200

    survived()
    is_sound(broker)


def test_what_is_sent_slowly_is_told_so(broker: BrokerProcess):
    """A request that never ends: 408 in time, whatever the part is that came."""
    whole = b"POST /v1/tokens/demo/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole += b"Content-Length: 40\r\nX-Canary: " + C + b'\r\n\r\n{"rejected":"' + C
    batch = [Stream((whole[:cut],), ends=False) for cut in range(1, len(whole), 9)]

    outcomes = asyncio.run(side_by_side(broker.socket, batch))

    for stream, received in zip(batch, outcomes, strict=True):
        judge(stream, received)
        assert split(received).status == 408
    is_sound(broker)
