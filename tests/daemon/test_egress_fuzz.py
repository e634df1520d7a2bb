"""
Bytes that are nearly calls of an API, on raw sockets: by name, by grant, and at a listener that is a base URL.

A strict reader beside the broker says which requests are in what was sent (``strict_http``); the API says which came
to it. None comes that is not among them, none that the allow list does not have, none twice, and nothing of a field
that speaks for somebody else. Whoever asks gets an answer, in the one shape where it is the broker's.

Bounded and the same in each run: ``EGRESS_STREAMS=20000 EGRESS_SEED=7`` looks for more.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.sandbox.layout import read_addresses
from broker.sandbox.person import decide
from tests.daemon.egress_place import EgressPlace, config_with
from tests.daemon.harness import broker_process, sandbox_process
from tests.daemon.strict_http import Given, Heard, given_in, heard_in
from tests.daemon.test_consent import REDIRECT_URI, send

STREAMS = int(os.environ.get("EGRESS_STREAMS", "480"))
SEED = int(os.environ.get("EGRESS_SEED", "1"))

BATCH = 24
"""Streams that are sent side by side; the journal of the API keeps a thousand requests."""

QUIET = 0.15
"""Seconds without a byte after whole answers: there is no other one."""

PATIENCE = 4.0
"""Seconds for an answer to something that is not a body; the broker gives a head one second to arrive."""

ALLOW = ("GET /hello", "* /request", "* /request/**", "POST /count", "POST /echo")

ALLOWED = re.compile(r"GET /hello|POST /count|POST /echo|(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /request(?:/.*)?")

MORE = """
[daemon]
state_dir = "state"
request_seconds = 1

[store]
key = { file = "consent-store.key" }

[token.people]
client = "demo"
grant_type = "authorization_code"
scope = ["openid", "hello:read"]
grants = "many"
"""

FOREIGN = "of-somebody-else"
"""In every value that must not reach the API."""

OWN = "of-the-caller"
"""In every value that should."""

DROPPED = (
    "Authorization Proxy-Authorization Proxy-Connection Proxy-Anything DPoP Cookie Forwarded X-Forwarded-For"
    " X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Client-Cert Client-Cert Client-Cert-Chain X-Client-Cert"
    " X-Amzn-Mtls-Client-Cert X-Amzn-Mtls-Client-Cert-Leaf X-ARR-Client-Cert X-SSL-Cert X-SSL-Client-Verify"
    " X-HTTP-Method X-HTTP-Method-Override X-Original-URL X-Rewrite-URL X-Token-Broker-Workload Keep-Alive TE Trailer"
).split()
"""What R6 drops on the way in, and what is of one hop."""

R6 = re.compile(
    r"authorization|proxy-.*|dpop|cookie|forwarded|x-forwarded-.*|client-cert.*|x-.*client-cert.*|x-ssl-.*"
    r"|x-http-method.*|x-original-url|x-rewrite-url|x-token-broker-.*|connection|keep-alive|te|trailer|upgrade"
    r"|http2-settings|expect"
)
"""The same as patterns, for names that are folded: none of these reaches the API, but for our own Authorization."""


@dataclass(frozen=True)
class Door:
    """A way in: *prefix* stands before the path of the API at the socket at *path*."""

    name: str
    path: Path
    prefix: str


@dataclass(frozen=True)
class Stream:
    """What is sent on one connection, in *pieces*, and how it was made."""

    door: Door
    pieces: tuple[bytes, ...]
    is_plain: bool

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class House:
    """The place, its doors, and what was seen in all."""

    at: EgressPlace
    doors: tuple[Door, ...]
    seen: Counter[str] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with sandbox_process(tmp_path_factory.mktemp("fuzz"), lifetime=600) as sandbox:
        config = config_with(sandbox, allow=ALLOW).replace(
            '"demo"]\nupstreams = ["api"', '"demo", "people"]\nupstreams = ["api", "people"'
        )
        config = config.replace('may = ["get", "egress"]', 'may = ["get", "egress", "authorize"]\ngrants = "all"')
        origin, rules = read_addresses(sandbox.home)["resource"], ", ".join(f'"{rule}"' for rule in ALLOW)
        config += (
            f'\n[upstream.people]\nbase_url = "{origin}/api"\ntoken = "people"\nca_file = "ca.pem"\nallow = [{rules}]\n'
        )
        key = sandbox.home / "consent-store.key"
        subprocess.run([sys.executable, "-m", "broker", "keygen", "store", str(key)], check=True, capture_output=True)
        (sandbox.home / "state").mkdir(mode=0o700)
        with broker_process(sandbox, config=config + MORE) as broker:
            at = EgressPlace(sandbox, broker)
            grant = consented(at)
            yield House(
                at,
                (
                    Door("name", broker.socket, "/v1/egress/api"),
                    Door("grant", broker.socket, f"/v1/grants/{grant}/egress/people"),
                    Door("base", at.base, ""),
                ),
            )


def consented(at: EgressPlace) -> str:
    """Have somebody consent, and give the grant."""
    begun = send(at.broker.socket, "POST", "/v1/authorizations", {"token": "people", "redirect_uri": REDIRECT_URI})
    assert begun.status == 201, begun.body
    said = begun.json()
    callback = decide(said["authorization_url"], ca_file=at.sandbox.home / "ca.pem", user="alice", allow=True)
    body = {"binding": said["binding"], "callback_url": callback.url}
    answer = send(at.broker.socket, "POST", f"/v1/authorizations/{said['id']}/callback", body)
    assert answer.status == 200, answer.body
    grant: str = answer.json()["grant"]
    return grant


# --- what is sent ---

F, O = FOREIGN.encode(), OWN.encode()

METHODS = [
    b"HEAD",
    b"OPTIONS",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"TRACE",
    b"CONNECT",
    b"PROPFIND",
    b"get",
    b"",
    b"GET\0",
    b"PRI",
    b"G" * 99,
]

VERSIONS = [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.1\0", b"http/1.1", b"HTTP/1.1 x", b""]

PATHS = [
    b"/../hello", b"/request/../../admin", b"/request/..", b"/request/%2e%2e/hello", b"/request/.%2E/x", b"/request/./x",
    b"/request/.", b"/request/..;/x", b"/request;x=1", b"/request/a%2fb", b"/request/a%5cb", b"/request/a\\b",
    b"/request//x", b"/request/%00", b"/request/%0d%0aX:y", b"/request/%zz", b"/request/%", b"/request/%c3%a4",
    b"/request/\xc3\xa4", b"/request/%ff", b"/request/%25252e", b"/hello/", b"/hello/x", b"/Hello", b"/%68ello", b"/admin",
    b"", b"/", b"//", b"/request#x", b"/bytes/10", b"/request/" + b"a" * 7000, b"/request/a*b", b"/request/~!$&'()+,=:@",
    b"/leaks", b"/../../sandbox/faults", b"/request/x/.../y", b"/request/%e2%80%ae", b"/request/%7f", b"/request/ x",
]  # fmt: skip

QUERIES = [
    b"access_token=x", b"a=1&access_token=x", b"a=1;access_token=x", b"access%5ftoken=x", b"%61ccess_token", b"access_token",
    b"+access_token=1", b"ACCESS_TOKEN=x", b"a=/../", b"a=%2e%2e%2f", b"a=%00", b"a=%zz", b"?", b"a=b?c", b"a=\\", b"a=#x",
    b"a=" + b"b" * 3000, b"a=%0d%0aX:%20y", b"b=c%", b"&&&", b"a=\xff", b"a='\"<>`{|}^",
]  # fmt: skip

FRAMING = [
    b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: 0x5", b"Content-Length: 5 5",
    b"Content-Length: ", b"Content-Length: 5.0", b"Content-Length: 05", b"Content-Length: 99999999999999999999999",
    b"Content-Length: 18446744073709551621", b"Content-Length : 5", b" Content-Length: 5", b"Content-Length:\x0b5",
    b"Content-Length: 5\x00", b"Content_Length: 5", b"Content-Length: 0\r\nContent-Length: 5", b"content-length: 5",
    b"Transfer-Encoding: chunked", b"transfer-encoding: CHUNKED", b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding:\r\n chunked", b"Transfer_Encoding: chunked", b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding: ",
    b"Transfer-Encoding: chun\xffked", b"Transfer-Encoding: chunked,", b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked", b"TE: chunked\r\nContent-Length: 5", b"Content-Length: 5\r\nX:\r\n Content-Length: 6",
]  # fmt: skip

ODD = [
    b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 200-ok", b"Expect: ", b"Connection: close",
    b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: websocket", b"Upgrade: h2c", b"upgrade: ",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", b"HTTP2-Settings: x",
    b"HTTP2_Settings: x", b"Connection: x-fapi-interaction-id, authorization, host, content-length, transfer-encoding",
    b"Connection: Host", b"Connection: close, Content-Length", b"Connection: , ,", b"Connection: \xff", b"Origin: http://x",
    b"Referer: http://x/", b"Sec-Fetch-Mode: cors", b"Host: localhost", b"Host: evil.example", b"host: unix", b"Host_: x",
    b"X-Fold: a\r\n b", b"X-Fold: a\r\n\tb", b"X-Bare: a\nX-B: b", b"X-Bare: a\rX-B: b", b"X-Nul: a\0b", b"X-High: \xff\xfe", b"X-Utf: \xc3\xa4",
    b"X-Tab: a\tb", b": empty", b"X Y: z", b"X\tY: z", b"X(Y): z", b"X\xff: z", b"NoColon", b"X-Big: " + b"z" * 9000,
    b"X-Many: z\r\n" * 90 + b"X-Last: z", b"X-Many: z\r\n" * 900 + b"X-Last: z", b"Max-Forwards: 0", b"Via: 1.0 " + F,
    b"Content-Encoding: aes128gcm", b"Accept-Encoding: br", b"Range: bytes=0-1", b"If-None-Match: *", b"Content-Type: a/b",
    b"!#$%&'*+.^_`|~: odd", b"X-Empty:", b"X-Space:   a   ",
]  # fmt: skip

SMUGGLED = b"POST {prefix}/count?smuggled=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

BODIES = [
    b"", b"12345", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5 ; a = \"b\"\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0\r\nAuthorization: " + F + b"\r\nContent-Length: 9\r\nHost: x\r\n\r\n", b"5\r\nhello\r\n0\r\nX Y\r\n\r\n",
    b"005\r\nhello\r\n000\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n", b"6\r\nhello\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"\r\n\r\n",
    b"5\r\nhello\r\nzz\r\n", b"FFFFFFFFFFFFFFFF\r\nhello", b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r", b"5\r\nhello\r\n0\n\n",
    b"5;" + b"x" * 20000 + b"\r\nhello\r\n0\r\n\r\n", b"5;\n\r\nhello\r\n0\r\n\r\n", b"0;a=b\r\n\r\n",
    b"0\r\n\r\n" + SMUGGLED, b"12345" + SMUGGLED, SMUGGLED, b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED, b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
    b"x" * 70000,
]  # fmt: skip


def spelled(name: str, rng: random.Random) -> bytes:
    """Write a field's name in another case, or with underscores."""
    changes = (
        str,
        str.lower,
        str.upper,
        str.title,
        lambda text: text.replace("-", "_"),
        lambda text: text.replace("-", "_", 1),
    )
    return rng.choice(changes)(name).encode()


def one_request(rng: random.Random, prefix: str, number: str) -> tuple[bytes, bool]:
    """Write a request that is well-formed but for one part or two; gives whether it is so in all."""
    odd = rng.sample(
        ["path", "query", "method", "version", "form", "framing", "odd", "odd", "body", "lines", "space"], 2
    )
    odd = odd[: rng.choice([0, 1, 1, 1, 2])]
    method = rng.choice([b"GET", b"GET", b"POST", b"PUT"])
    path = rng.choice(
        [b"/request", b"/request/a/b"]
        + ([b"/count", b"/echo"] if method == b"POST" else [b"/hello"] if method == b"GET" else [])
    )
    method = rng.choice(METHODS) if "method" in odd else method
    path = rng.choice(PATHS) if "path" in odd else path
    query = number.encode() + (b"&" + rng.choice(QUERIES) if "query" in odd else b"")
    target = prefix.encode() + path + b"?" + query
    if "form" in odd:
        forms = [
            b"http://localhost",
            b"https://localhost",
            b"//localhost",
            b"localhost",
            b"*",
            b" ",
            b"http://evil.example",
            b"/v1/egress/other",
        ]
        target = rng.choice(forms) + target
    lines = [rng.choice([b"Host: localhost", b"host: localhost", b"HOST: token-broker"])]
    for name in rng.sample(DROPPED, rng.choice([0, 2, 5])):
        lines.append(spelled(name, rng) + b": " + F)
    for at in range(rng.choice([0, 1, 2])):
        lines.append(b"X-Kept-%d: %s" % (at, O))
    if rng.random() < 0.15:
        lines += [
            b"Connection: close, X-Named , " + spelled("X-Other", rng),
            b"X-Named: " + F,
            spelled("X-Other", rng) + b": " + F,
        ]
    body = b""
    if method not in (b"GET", b"HEAD") and rng.random() < 0.8:
        body = rng.choice([b"12345", b"x" * 3000, b"5\r\nhello\r\n0\r\n\r\n"])
        lines.append(b"Transfer-Encoding: chunked" if body.startswith(b"5\r") else b"Content-Length: %d" % len(body))
    if "framing" in odd:
        lines = [one for one in lines if not one.startswith((b"Content-L", b"Transfer-E"))]
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(FRAMING))
        body = rng.choice(BODIES).replace(b"{prefix}", prefix.encode())
    elif "body" in odd:
        body = rng.choice(BODIES).replace(b"{prefix}", prefix.encode())
        lines = [one for one in lines if not one.startswith((b"Content-L", b"Transfer-E"))]
        lines.append(rng.choice([b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(body)]))
    if "odd" in odd:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(ODD))
    newline = rng.choice([b"\n", b"\r", b"\r\r\n"]) if "lines" in odd else b"\r\n"
    space = rng.choice([b"\t", b"  ", b"", b"\x0b"]) if "space" in odd else b" "
    version = rng.choice(VERSIONS) if "version" in odd else b"HTTP/1.1"
    return newline.join([space.join((method, target, version)), *lines, b"", b""]) + body, not odd


def one_stream(rng: random.Random, doors: tuple[Door, ...], number: int) -> Stream:
    """Write one to three requests, damage them or not, and cut them into pieces."""
    door = rng.choice(doors)
    made = [one_request(rng, door.prefix, f"n={number}.{at}") for at in range(rng.choice([1, 1, 2, 3]))]
    raw, is_plain = b"".join(one for one, _ in made), len(made) == 1 and made[0][1]
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        junk = rng.choice(
            [b"", b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\xff", b":", b"0" * 40, b"\x0b", b"\t", F]
        )
        place = rng.randrange(min(len(raw), 600) + 1)
        raw, is_plain = raw[:place] + junk + raw[place + rng.choice([0, 1]) :], False
    cuts = sorted(rng.randrange(len(raw) + 1) for _ in range(rng.choice([0, 0, 1, 3, 8])))
    pieces = (raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True))
    return Stream(door, tuple(piece for piece in pieces if piece), is_plain)


async def played(stream: Stream) -> tuple[bytes, bool]:
    """Send *stream* and give what comes back, and whether the broker ended the connection."""
    loop, received = asyncio.get_running_loop(), b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, str(stream.door.path))
        with suppress(ConnectionError):  # it has its answer already, and wants no more
            for piece in stream.pieces:
                await asyncio.wait_for(loop.sock_sendall(connection, piece), PATIENCE)
                await asyncio.sleep(0.003)
        with suppress(ConnectionError):
            while True:
                try:
                    patience = QUIET if is_whole(received, stream) else PATIENCE
                    piece = await asyncio.wait_for(loop.sock_recv(connection, 65_536), patience)
                except TimeoutError:
                    return received, False
                if not piece:
                    break
                received += piece
    return received, True


def is_whole(received: bytes, stream: Stream) -> bool:
    if not received or b"\r\n\r\n" not in received:
        return False
    try:
        answers = given_in(received, bodiless=b"HEAD" in stream.raw)
    except AssertionError:
        return False
    return bool(answers) and answers[-1].is_whole


# --- what may come of it ---


def may_pass(one: Heard, door: Door) -> bool:
    """Say whether the rules let *one* through, as they are written and not as they are built."""
    path, _, query = one.target.partition("?")
    if not path.startswith(door.prefix + "/") or not ALLOWED.fullmatch(
        f"{one.method} {path.removeprefix(door.prefix)}"
    ):
        return False
    if re.search(r"\.\.|//|\\|;|#|%2e|%2f|%5c|%25|%3b|%[01]|%7f|%(?![0-9a-f]{2})", path, re.IGNORECASE) or "#" in query:
        return False
    if "." in path.split("/") or re.search(r"(?:^|[&;])(?:a|%61)ccess(?:_|%5f)token(?:=|&|$)", query):
        return False
    names = {name.lower().replace("_", "-") for name, _ in one.fields}
    if names & {"origin", "referer", "upgrade", "http2-settings"} - {
        "http2-settings" if not one.values("http2-settings") else ""
    }:
        return False
    expected = [value for value in one.values("expect") if value.lower() != "100-continue"]
    hosts = one.values("host")
    return not expected and not any(name.startswith("sec-fetch-") for name in names) and len(hosts) == 1


def judge(stream: Stream, received: bytes, *, ended: bool, heard: list[Heard]) -> list[Given]:
    """Fail unless what came back is answers, each in its shape, and as many as there may be."""
    shown = (stream.pieces, received)
    assert b"eyJ" not in received, shown
    answers = given_in(received, bodiless=b"HEAD" in stream.raw)
    has_body = re.search(rb"(?i)content.length|transfer.encoding", stream.raw)
    assert answers or has_body, ("whoever waits for an answer gets one", shown)
    assert ended or has_body or (answers and answers[-1].is_whole), shown
    assert len(answers) <= len(heard) + 1, shown
    for answer in answers:
        assert answer.status != 500, shown
        if answer.values("server") == ["token-broker"]:
            judge_ours(answer, stream, shown)
        else:
            assert answer.status in {200, 404}, shown
            assert not answer.values("proxy-status"), shown
    return answers


def judge_ours(answer: Given, stream: Stream, shown: object) -> None:
    """Fail unless it is in the shape of the broker's answers, and says that it is one."""
    assert answer.status in {400, 403, 404, 405, 408, 413, 415, 429, 431, 501, 502}, shown
    assert answer.values("cache-control") == ["no-store"], shown
    assert answer.values("content-type") == ["application/json"], shown
    assert FOREIGN.encode() not in answer.body, shown
    assert OWN.encode() not in answer.body, shown
    if answer.body:
        members = json.loads(answer.body)
        assert {"error", "error_description"} <= set(members) <= {"error", "error_description", "hint", "reason"}, shown
    told = answer.values("proxy-status")
    if stream.door.name == "base" or answer.status in {501, 502}:
        assert told, shown
    assert all(re.fullmatch("token-broker; error=[a-z_]+", one) for one in told), shown


def judge_echo(answer: Given, asked: dict[str, Heard], origin: str) -> None:
    """Look at what the API says that reached it."""
    seen = json.loads(answer.body)
    one = asked[seen["target"]]
    names = [name.lower().replace("_", "-") for name, _ in seen["headers"]]
    values = {name.lower(): value for name, value in seen["headers"]}
    assert FOREIGN not in json.dumps(seen["headers"]), seen
    assert [name for name in names if R6.fullmatch(name)] == ["authorization"], seen
    assert (values["authorization"], values["host"]) == ("Bearer", origin), seen
    assert len(names) - len(set(names)) <= sum(name == "x-many" for name in names), seen
    framing = [name for name in names if name in {"content-length", "transfer-encoding"}]
    assert len(framing) <= 1, seen
    assert "x-fapi-interaction-id" in names or "people" in one.target, seen
    assert (seen["method"], seen["version"]) == (one.method, "1.1")
    assert seen["body_sha256"] == hashlib.sha256(one.body).hexdigest(), seen
    for name, value in one.fields:
        if value == OWN:
            assert values[name.lower()] == OWN, seen


def test_of_bytes_that_are_nearly_calls_the_api_gets_those_only_that_are_some(house: House):
    """By a strict reader's account, with none of the fields that are dropped; and each answer has its shape."""
    rng = random.Random(SEED)
    origin = read_addresses(house.at.sandbox.home)["resource"].removeprefix("https://")
    for first in range(0, STREAMS, BATCH):
        batch = [one_stream(rng, house.doors, number) for number in range(first, min(first + BATCH, STREAMS))]
        house.at.sandbox.control.clear_requests()
        before = len(house.at.broker.records("egress_called"))

        async def side_by_side(batch: list[Stream] = batch) -> list[tuple[bytes, bool]]:
            return await asyncio.gather(*(played(stream) for stream in batch))

        outcomes = asyncio.run(side_by_side())

        allowed: Counter[tuple[str, str]] = Counter()
        asked: dict[str, Heard] = {}
        answers: list[Given] = []
        for stream, (received, ended) in zip(batch, outcomes, strict=True):
            heard = heard_in(stream.raw)
            for one in heard:
                if may_pass(one, stream.door):
                    target = "/api" + one.target.removeprefix(stream.door.prefix)
                    allowed[one.method, target[:2_000]] += 1
                    asked[target[:2_000]] = one
            given = judge(stream, received, ended=ended, heard=heard)
            assert not stream.is_plain or [one.status for one in given] == [200], (stream.pieces, received)
            answers += given
        came = [one for one in house.at.reached() if one["outcome"] != "aborted"]
        reached = Counter((one["method"], one["target"]) for one in came)
        assert reached <= allowed, guilty(reached - allowed, batch)
        assert all(one["matched"] and one["status"] in {200, 404} for one in came), came
        records = house.at.broker.records("egress_called")[before:]
        assert len(came) <= len(records)
        for answer in answers:
            if b'"body_sha256"' in answer.body and answer.status == 200 and answer.is_whole:
                judge_echo(answer, asked, origin)
                house.seen["echo"] += 1
        house.seen["reached"] += len(came)
        house.seen.update(str(answer.status) for answer in answers)
    print("seen", SEED, STREAMS, dict(house.seen))
    assert house.seen["reached"] > STREAMS / 5
    assert house.seen["echo"] > STREAMS / 10
    assert min(house.seen[status] for status in ("400", "403", "501")) > STREAMS / 200
    is_sound(house)


def guilty(unasked: Counter[tuple[str, str]], batch: list[Stream]) -> list[object]:
    """Give the requests that nobody sent, and the streams that may have led to them."""
    numbers = re.findall(r"n=([0-9]+)\.", str(list(unasked)))
    return [unasked, *(one.raw for one in batch if any(b"n=%s." % number.encode() in one.raw for number in numbers))]


def is_sound(house: House) -> None:
    """Fail unless the broker serves as before and had no surprise."""
    broker = house.at.broker
    assert house.at.ask("GET", "/hello").status == 200
    assert broker.log("unexpected_failure") == []
    assert broker.log("library_reported") == []
    told = broker.said() + broker.audit.read_text()
    assert FOREIGN not in told
    assert OWN not in told
    assert "Traceback" not in told
