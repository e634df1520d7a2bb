"""Tests of ``broker/sandbox/wire_misbehaving.py``: what is on the wire, read without an HTTP library."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sandbox.talking import Talker, talking

pytestmark = pytest.mark.real_time


async def heard(talker: Talker, path: str = "/api/hello", *, method: str = "GET", more: bytes = b"") -> bytes:
    """Send a good request on a connection of its own, and give all that comes until it ends or half a second passes."""
    token = (await talker.token()).body["access_token"]
    port = int(talker.sandbox.addresses.resource.rpartition(":")[2])
    context = talker.context("client")
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {token}\r\n"
    writer.write(head.encode() + (more or b"\r\n"))
    taken = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(0.5):
            while block := await reader.read(65_536):
                taken += block
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return taken


async def struck(prepared: Path, tmp_path: Path, kind: str, path: str = "/api/hello", **parameters: Any) -> bytes:
    """Give what came of a request that met a fault."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("resource", kind, **parameters)
        return await heard(talker, path)


def parted(raw: bytes) -> tuple[bytes, bytes]:
    """Give head and body."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return head, body


async def test_interim_answers_come_first(prepared: Path, tmp_path: Path):
    """As many as asked for, then the answer on the same connection."""
    raw = await struck(prepared, tmp_path, "interim", status=103, count=3)

    assert raw.count(b"HTTP/1.1 103 Early Hints\r\nLink: ") == 3
    assert raw.split(b"\r\n\r\n")[3].startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("status", [100, 102])
async def test_an_interim_answer_may_be_empty(prepared: Path, tmp_path: Path, status: int):
    """Nothing but its status, though nobody expected it."""
    raw = await struck(prepared, tmp_path, "interim", status=status)

    assert raw.startswith(b"HTTP/1.1 %d " % status)
    assert len(raw.split(b"\r\n\r\n")[0].split(b"\r\n")) == 1


async def test_a_slow_head_is_good_in_the_end(prepared: Path, tmp_path: Path):
    """And takes as long as it has bytes."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    raw = await struck(prepared, tmp_path, "slow_head", seconds_per_byte=0.001)

    head, body = parted(raw)
    assert loop.time() - began >= 0.001 * len(head)
    assert json.loads(body)["message"] == "hello"


@pytest.mark.parametrize("difference", [-10, 10])
async def test_a_wrong_length_differs_by_so_much(prepared: Path, tmp_path: Path, difference: int):
    """The body is whole either way."""
    head, body = parted(await struck(prepared, tmp_path, "wrong_length", difference=difference))

    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    assert json.loads(body)["message"] == "hello"
    assert lengths == [len(body) + difference]


async def test_a_bad_chunk_comes_after_a_good_one(prepared: Path, tmp_path: Path):
    """A client has part of the body by then."""
    head, body = parted(await struck(prepared, tmp_path, "bad_chunk"))

    size, _, rest = body.partition(b"\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert rest[int(size, 16) :] == b"\r\nxyz\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_may_be_of_either_framing(prepared: Path, tmp_path: Path, chunked: bool, reset: bool):
    """In the middle of a large body as well."""
    raw = await struck(prepared, tmp_path, "cut", "/api/bytes/100000", chunked=chunked, reset=reset)

    head, body = parted(raw)
    assert (b"Transfer-Encoding: chunked" in head) is chunked
    assert (b"Content-Length: 100000" in head) is not chunked
    assert len(body) < 60_000
    assert not body.endswith(b"0\r\n\r\n")


async def test_a_compressed_body_says_so(prepared: Path, tmp_path: Path):
    """Though nobody asked for it."""
    head, body = parted(await struck(prepared, tmp_path, "gzip", "/api/bytes/500"))

    assert b"Content-Encoding: gzip" in head
    assert len(gzip.decompress(body)) == 500


async def test_an_early_answer_does_not_wait_for_the_body(prepared: Path, tmp_path: Path):
    """It comes although not a byte of the body did, and the connection ends."""
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.fault("resource", "early_answer", status=507)
        more = b"Content-Length: 1000000\r\n\r\n"

        raw = await asyncio.wait_for(heard(talker, "/api/count", method="POST", more=more), 0.45)

        assert raw.startswith(b"HTTP/1.1 507 Insufficient Storage\r\n")
        assert [entry.status for entry in talker.sandbox.journal.entries("resource")] == [507]


async def test_a_good_token_may_be_refused(prepared: Path, tmp_path: Path):
    """Once, with the challenge of RFC 6750."""
    async with talking(prepared, tmp_path) as talker:
        token = (await talker.token()).body["access_token"]
        talker.sandbox.fault("resource", "invalid_token", times=1)

        refused, good = await talker.hello(token), await talker.hello(token)

        assert (refused.status, good.status) == (401, 200)
        assert refused.headers["WWW-Authenticate"].startswith('Bearer realm="sandbox", error="invalid_token"')


async def test_leaks_are_all_on_the_wire(prepared: Path, tmp_path: Path):
    """Fields, trailers, and a body that names them."""
    async with talking(prepared, tmp_path) as talker:
        head, body = parted(await heard(talker, "/api/leaks"))

        size, _, rest = body.partition(b"\r\n")
        said = json.loads(rest[: int(size, 16)])
        trailers = rest[int(size, 16) :]
        assert trailers == b"\r\n0\r\nX-Sandbox-Trailer: leaked\r\nSet-Cookie: trailer=leaked\r\n\r\n"
        for name in (*said["dropped"], *said["kept"]):
            assert f"\r\n{name}: ".encode() in head + trailers
        assert head.count(b"\r\nX-Sandbox-Kept: ") == 2
