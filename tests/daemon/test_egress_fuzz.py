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

import pytest

from broker.sandbox.layout import read_addresses
from broker.sandbox.person import decide
from tests.daemon.egress_place import EgressPlace, config_with
from tests.daemon.harness import broker_process, sandbox_process, wait_until
from tests.daemon.nearly_calls import FOREIGN, OWN, Door, Stream, one_stream
from tests.daemon.strict_http import Given, Heard, given_in, heard_in
from tests.daemon.test_consent import REDIRECT_URI, send

STREAMS = int(os.environ.get("EGRESS_STREAMS", "480"))
SEED = int(os.environ.get("EGRESS_SEED", "1"))

BATCH = 24
"""Streams that are sent side by side; the journal of the API keeps a thousand requests."""

KEPT_TARGET = 2_000
"""Characters of a target that the journal of the API keeps."""

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

R6 = re.compile(
    r"authorization|proxy-.*|dpop|cookie|forwarded|x-forwarded-.*|client-cert.*|x-.*client-cert.*|x-ssl-.*"
    r"|x-http-method.*|x-original-url|x-rewrite-url|x-token-broker-.*|connection|keep-alive|te|trailer|upgrade"
    r"|http2-settings|expect"
)
"""The same as patterns, for names that are folded: none of these reaches the API, but for our own Authorization."""


FRAMING = ("content-length", "transfer-encoding")


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
    values = {name.lower(): value for name, value in seen["headers"]}
    names = [folded(name) for name, _ in seen["headers"]]
    assert [name for name in names if R6.fullmatch(name)] == ["authorization"], seen
    assert (values["authorization"], values["host"]) == ("Bearer", origin), seen
    assert len([name for name in names if name in FRAMING]) <= 1, seen
    assert "x-fapi-interaction-id" in names or "/egress/people/" in one.target, seen
    ours = {"authorization", "host", "x-fapi-interaction-id", *FRAMING}
    kept = [[name, value] for name, value in seen["headers"] if folded(name) not in ours]
    assert kept == end_to_end(one), (seen, one)
    assert (seen["method"], seen["version"]) == (one.method, "1.1")
    assert seen["body_sha256"] == hashlib.sha256(one.body).hexdigest(), seen


def end_to_end(one: Heard) -> list[list[str]]:
    """Give the fields that should reach the API, as R6 has it."""
    named = {folded(word.strip()) for value in one.values("connection") for word in value.split(",")}
    others = named | {"host", "via", "x-fapi-interaction-id", *FRAMING}
    return [
        [name, value] for name, value in one.fields if not R6.fullmatch(folded(name)) and folded(name) not in others
    ]


def folded(name: str) -> str:
    return name.lower().replace("_", "-")


def test_of_bytes_that_are_nearly_calls_the_api_gets_those_only_that_are_some(house: House):
    """By a strict reader's account, with none of the fields that are dropped; and each answer has its shape."""
    rng = random.Random(SEED)
    for first in range(0, STREAMS, BATCH):
        one_batch(house, [one_stream(rng, house.doors, at) for at in range(first, min(first + BATCH, STREAMS))])
    print(f"seed {SEED}, {STREAMS} streams: {dict(house.seen)}")

    assert house.seen["reached"] > STREAMS / 5
    assert house.seen["echo"] > STREAMS / 10
    assert min(house.seen[door.name] for door in house.doors) > STREAMS / 30
    assert min(house.seen[status] for status in ("400", "403", "501")) > STREAMS / 200
    is_sound(house)


def one_batch(house: House, batch: list[Stream]) -> None:
    """Send streams side by side, and hold what came of them to what may."""
    house.at.sandbox.control.clear_requests()
    before = len(house.at.broker.records("egress_called"))

    async def side_by_side() -> list[tuple[bytes, bool]]:
        return await asyncio.gather(*(played(stream) for stream in batch))

    outcomes = asyncio.run(side_by_side())

    allowed: Counter[tuple[str, str]] = Counter()
    asked: dict[str, Heard] = {}
    answers: list[Given] = []
    for stream, (received, ended) in zip(batch, outcomes, strict=True):
        heard = heard_in(stream.raw)
        for one in heard:
            if may_pass(one, stream.door):
                target = ("/api" + one.target.removeprefix(stream.door.prefix))[:KEPT_TARGET]
                allowed[one.method, target] += 1
                asked[target] = one
        given = judge(stream, received, ended=ended, heard=heard)
        assert not stream.is_plain or [one.status for one in given] == [200], (stream.pieces, received)
        answers += given
        house.seen.update(stream.door.name for one in given if one.status == 200)
    came = [one for one in house.at.reached() if one["outcome"] != "aborted"]
    reached = Counter((one["method"], one["target"]) for one in came)
    assert reached <= allowed, guilty(reached - allowed, batch)
    assert all(one["matched"] and one["status"] in {200, 404} for one in came), came
    wait_until(lambda: recorded(house, before) >= len(came), "each call has a record, also of who left just now")
    origin = read_addresses(house.at.sandbox.home)["resource"].removeprefix("https://")
    for answer in answers:
        if b'"body_sha256"' in answer.body and answer.status == 200 and answer.is_whole:
            judge_echo(answer, asked, origin)
            house.seen["echo"] += 1
    house.seen["reached"] += len(came)
    house.seen.update(str(answer.status) for answer in answers)


def recorded(house: House, before: int) -> int:
    return len(house.at.broker.records("egress_called")) - before


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
