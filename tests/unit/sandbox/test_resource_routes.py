"""Tests of ``broker/sandbox/resource_routes.py``: what the resource API answers and records, over real TLS."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.sandbox.demo_clients import CLIENT_ID
from broker.sandbox.jose import unverified_claims
from broker.sandbox.journal import Entry
from broker.sandbox.resource_routes import MAX_TARGET
from broker.sandbox.streaming import BLOCK, pattern
from tests.unit.sandbox.talking import Heard, Talker, talking

pytestmark = pytest.mark.real_time


async def call(talker: Talker, method: str, path: str, *, certificate: str = "client", **options: Any) -> Heard:
    """Call the API with a good token."""
    headers = {**await authorized(talker), **options.pop("headers", {})}
    url = f"{talker.sandbox.addresses.resource}{path}"
    return await talker.send(method, url, certificate, headers=headers, **options)


async def authorized(talker: Talker) -> dict[str, str]:
    return {"Authorization": f"Bearer {(await talker.token()).body['access_token']}"}


async def until(talker: Talker, outcome: str) -> Entry:
    """Wait until a request to the API ends so, and give its entry."""
    async with asyncio.timeout(5):
        while True:
            for entry in talker.sandbox.journal.entries("resource"):
                if entry.outcome == outcome:
                    return entry
            await asyncio.sleep(0.01)


async def slices(count: int, *, size: int = BLOCK) -> AsyncIterator[bytes]:
    """Give a body without a length."""
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("chunked", [False, True])
async def test_bytes_are_as_many_as_asked_for(prepared: Path, tmp_path: Path, chunked: bool):
    """With a length, or chunked."""
    size = 3 * BLOCK + 5
    async with talking(prepared, tmp_path) as talker:
        heard = await call(talker, "GET", f"/api/bytes/{size}{'?chunked=1' if chunked else ''}")

        assert heard.raw == b"".join(pattern(size))
        assert heard.headers.get("Content-Length") == (None if chunked else str(size))


async def test_a_large_body_is_not_held(prepared: Path, tmp_path: Path):
    """Down, back and up: a hundredth of what goes by, at most."""
    size = 32 * 1024 * 1024
    async with talking(prepared, tmp_path) as talker:
        context, headers = talker.context("client"), await authorized(talker)
        url = talker.sandbox.addresses.resource
        tracemalloc.start()
        try:
            async with talker.session.get(f"{url}/api/bytes/{size}", ssl=context, headers=headers) as answer:
                down = sum([len(block) async for block in answer.content.iter_chunked(BLOCK)])
            body = slices(size // BLOCK)
            async with talker.session.post(f"{url}/api/count", data=body, ssl=context, headers=headers) as answer:
                up = (await answer.json())["bytes"]
            body = slices(size // BLOCK)
            async with talker.session.put(f"{url}/api/echo", data=body, ssl=context, headers=headers) as answer:
                back = sum([len(block) async for block in answer.content.iter_chunked(BLOCK)])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert (down, up, back) == (size, size // BLOCK * BLOCK, size // BLOCK * BLOCK)
        assert peak < size / 10


async def test_a_body_at_a_pace_takes_its_time(prepared: Path, tmp_path: Path):
    """Down and up."""
    loop = asyncio.get_running_loop()
    async with talking(prepared, tmp_path) as talker:
        began = loop.time()
        down = await call(talker, "GET", "/api/bytes/2000?pace=10000")
        between = loop.time()
        up = await call(talker, "POST", "/api/count?pace=10000", data=b"x" * 2_000)
        ended = loop.time()

        assert (len(down.raw), up.body["bytes"]) == (2_000, 2_000)
        assert between - began >= 0.15
        assert ended - between >= 0.15


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("length", [True, False])
async def test_an_echo_is_framed_like_the_request(prepared: Path, tmp_path: Path, method: str, length: bool):
    """With its content type."""
    body: Any = b"x" * 100 if length else slices(2, size=50)
    async with talking(prepared, tmp_path) as talker:
        heard = await call(talker, method, "/api/echo", data=body, headers={"Content-Type": "text/x-test"})

        assert heard.raw == b"x" * 100
        assert heard.headers["Content-Type"] == "text/x-test"
        assert heard.headers.get("Content-Length") == ("100" if length else None)


async def test_an_echo_comes_while_the_body_goes(prepared: Path, tmp_path: Path):
    """The first block is back before the second is sent."""
    back = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.wait_for(back.wait(), 5)
        yield b"second"

    async with talking(prepared, tmp_path) as talker:
        url, context = f"{talker.sandbox.addresses.resource}/api/echo", talker.context("client")
        headers = await authorized(talker)
        async with talker.session.post(url, data=waiting(), ssl=context, headers=headers) as answer:
            first = await answer.content.readany()
            back.set()
            rest = await answer.content.read()

        assert (first, rest) == (b"first", b"second")


async def test_a_body_is_counted(prepared: Path, tmp_path: Path):
    """Length and digest."""
    async with talking(prepared, tmp_path) as talker:
        heard = await call(talker, "POST", "/api/count", data=b"abc")

        assert heard.body == {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
        assert talker.sandbox.journal.entries("resource")[0].body_bytes == 3


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_a_request_is_told_as_it_came(prepared: Path, tmp_path: Path, method: str):
    """Method, target, fields in order with repeated ones; no secret of it."""
    async with talking(prepared, tmp_path) as talker:
        target = "/api/request/a%2Fb//c?x=1&access_token=secret&y=%20"
        headers = {"X-One": "1", "DPoP": "proof"}
        heard = await call(talker, method, target, headers=headers, data=b"1234")

        given = dict(heard.body["headers"])
        assert (heard.body["method"], heard.body["version"], heard.body["body_bytes"]) == (method, "1.1", 4)
        assert heard.body["target"] == "/api/request/a%2Fb//c?x=1&access_token=...&y=%20"
        assert (given["X-One"], given["Authorization"], given["DPoP"]) == ("1", "Bearer", "present")
        assert heard.body["certificate"] == talker.sandbox.journal.entries("resource")[0].certificate
        assert heard.body["token"] == talker.sandbox.journal.entries("resource")[0].token


async def test_a_request_is_told_in_full_where_that_is_asked_for(prepared: Path, tmp_path: Path):
    """A test compares what an application's token became."""
    async with talking(prepared, tmp_path) as talker:
        target = "/api/request?reveal=1&access_token=a"
        heard = await call(talker, "GET", target, headers={"DPoP": "proof"})

        given = dict(heard.body["headers"])
        assert given["Authorization"].startswith("Bearer ey")
        assert given["DPoP"] == "proof"
        assert heard.body["target"] == target


async def test_repeated_fields_are_all_told(prepared: Path, tmp_path: Path):
    """In their order, by the names that they had."""
    async with talking(prepared, tmp_path) as talker:
        headers = [*(await authorized(talker)).items(), ("X-A", "1"), ("x-b", "2"), ("X-A", "3")]
        url = f"{talker.sandbox.addresses.resource}/api/request"
        heard = await talker.send("GET", url, "client", headers=headers)

        assert [pair for pair in heard.body["headers"] if pair[0].lower() in {"x-a", "x-b"}] == [
            ["X-A", "1"],
            ["x-b", "2"],
            ["X-A", "3"],
        ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/bytes/67108865"),
        ("GET", "/api/bytes/" + "9" * 5_000),
        ("GET", "/api/bytes/1?pace=0"),
        ("GET", "/api/bytes/1?pace=x"),
        ("POST", "/api/echo?pace=-1"),
        ("POST", "/api/count?pace=1.5"),
    ],
)
async def test_nonsense_is_400(prepared: Path, tmp_path: Path, method: str, path: str):
    """And in the record."""
    async with talking(prepared, tmp_path) as talker:
        heard = await call(talker, method, path)

        (entry,) = talker.sandbox.journal.entries("resource")
        assert (heard.status, heard.body["error"]) == (400, "invalid_request")
        assert (entry.status, entry.outcome) == (400, "invalid_request")
        assert len(entry.target or "") <= MAX_TARGET


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/bytes/9"),
        ("POST", "/api/echo"),
        ("PUT", "/api/echo"),
        ("POST", "/api/count"),
        ("DELETE", "/api/request"),
        ("GET", "/api/leaks"),
        ("GET", "/api/hello"),
    ],
)
async def test_every_route_looks_at_the_certificate(prepared: Path, tmp_path: Path, method: str, path: str):
    """A token on another connection gets nowhere, and is counted."""
    async with talking(prepared, tmp_path) as talker:
        heard = await call(talker, method, path, certificate="other")

        assert heard.status == 401
        assert talker.sandbox.journal.count("resource.unmatched") == 1


async def test_a_call_is_recorded_with_what_it_showed(prepared: Path, tmp_path: Path):
    """What the token is bound to, what the connection has, and no secret."""
    async with talking(prepared, tmp_path) as talker:
        token = (await talker.token()).body["access_token"]
        good, bad = await talker.hello(token), await talker.hello(token, certificate="other")

        first, second = talker.sandbox.journal.entries("resource")
        assert (good.status, bad.status) == (first.status, second.status) == (200, 401)
        assert (first.matched, second.matched) == (True, False)
        assert first.cnf == second.cnf == unverified_claims(token)["cnf"] == {"x5t#S256": first.certificate}
        assert first.token == second.token
        assert (first.client, first.target) == (CLIENT_ID, "/api/hello")
        assert second.certificate != first.certificate
        assert token not in str(talker.sandbox.journal.as_json())


async def test_a_fault_does_not_hide_a_wrong_certificate(prepared: Path, tmp_path: Path):
    """A request that was not processed was sent all the same."""
    async with talking(prepared, tmp_path) as talker:
        token = (await talker.token()).body["access_token"]
        talker.sandbox.fault("resource", "status", status=429, retry_after=1)

        await talker.hello(token, certificate="other")

        (entry,) = talker.sandbox.journal.entries("resource")
        assert (entry.outcome, entry.status, entry.matched) == ("fault", 429, False)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/admin?a=b"), ("DELETE", "/api/hello"), ("GET", "/api/bytes/x")]
)
async def test_what_does_not_exist_is_recorded(prepared: Path, tmp_path: Path, method: str, path: str):
    """A request that should never have got here is seen."""
    async with talking(prepared, tmp_path) as talker:
        heard = await call(talker, method, path)

        (entry,) = talker.sandbox.journal.entries("resource")
        assert (heard.status, entry.outcome, entry.method, entry.target) == (404, "not_found", method, path)


async def test_a_reader_that_leaves_is_recorded(prepared: Path, tmp_path: Path):
    """After the call was: it was let in."""
    async with talking(prepared, tmp_path) as talker:
        url, context = f"{talker.sandbox.addresses.resource}/api/bytes/50000000", talker.context("client")
        async with talker.session.get(url, ssl=context, headers=await authorized(talker)) as answer:
            await answer.content.read(1)
            answer.close()
        await until(talker, "aborted")

        assert [entry.outcome for entry in talker.sandbox.journal.entries("resource")] == ["ok", "aborted"]


async def test_a_sender_that_leaves_is_recorded(prepared: Path, tmp_path: Path):
    """With what it had sent."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 10
        await asyncio.sleep(0.05)
        raise ConnectionResetError

    async with talking(prepared, tmp_path) as talker:
        with pytest.raises(aiohttp.ClientError):
            await call(talker, "POST", "/api/count", data=failing())

        assert (await until(talker, "aborted")).body_bytes == 10


async def test_a_slow_body_does_not_keep_others(prepared: Path, tmp_path: Path):
    """One that reads a byte a second, and one that says hello."""
    async with talking(prepared, tmp_path) as talker:
        token = (await talker.token()).body["access_token"]
        slow = asyncio.get_running_loop().create_task(call(talker, "POST", "/api/count?pace=1", data=b"x" * 100))
        async with asyncio.timeout(2):
            while talker.sandbox.journal.count("token.issued") < 2:
                await asyncio.sleep(0.01)
            assert (await talker.hello(token)).status == 200
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
