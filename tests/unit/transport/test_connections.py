"""What all connections have in common, whoever sends over them: where they may lead, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.reasons import Reason
from broker.transport.connections import Connections, was_closed
from broker.transport.proxy import Proxy
from tests.fakes import HandClock
from tests.unit.transport.certificates import client_context, server_context
from tests.unit.transport.servers import Connection, serving


@contextlib.asynccontextmanager
async def connections(
    thumbprint: str | None = None, not_after: float | None = None, proxy: Proxy | None = None, limit: int = 4
) -> AsyncIterator[Connections]:
    made = Connections(
        ssl_context=client_context(),
        thumbprint=thumbprint,
        not_after=not_after,
        clock=HandClock(),
        proxy=proxy,
        limit=limit,
    )
    try:
        yield made
    finally:
        await made.end()


@pytest.mark.parametrize(
    ("url", "proxied", "reason"),
    [
        ("https://user@as.example/", False, Reason.ENDPOINT_REFUSED),
        ("https://169.254.169.254/", False, Reason.ADDRESS_REFUSED),
        ("http://as.example/", True, Reason.ENDPOINT_REFUSED),
    ],
)
async def test_nothing_is_sent_to_where_nothing_may_be(url: str, proxied: bool, reason: Reason):
    """Nor is a proxy shown a plain request."""
    async with connections(proxy=Proxy(url="http://proxy.example:3128") if proxied else None) as them:
        with pytest.raises(RemoteError) as raised:
            them.begun(url)

    assert (raised.value.code, raised.value.outcome) == (reason, Outcome.NOT_SENT)


async def test_a_certificate_is_presented_over_tls_alone():
    """That is what a suspicion against it depends on."""
    async with connections(thumbprint="t") as them:
        assert them.begun("https://as.example/").presents_certificate
        assert not them.begun("http://127.0.0.1/").presents_certificate


async def test_a_connection_that_was_paused_for_one_reply_is_read_again_for_the_next():
    """Who had it before may not have taken all of its reply yet (rules.md R6)."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + b"x" * 600_000)
        await connection.hear()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall")

    async with serving(handler, server_context()) as server, connections(limit=1) as them:
        client = await them.client(alone=True)
        url = server.url(scheme="https")

        async def ask() -> bytes:
            progress = them.begun(url)
            async with client.get(
                url, trace_request_ctx=progress, middlewares=(them.once(progress),), allow_redirects=False
            ) as answer:
                return await answer.read()

        async with asyncio.timeout(10):
            assert [len(await ask()), await ask()] == [600_000, b"small"]


async def test_what_was_closed_by_us_is_told_as_that():
    """Whatever aiohttp says of it."""
    async with connections() as them:
        progress = them.begun("https://as.example/")
        them.closed = True

        assert them.translated(OSError(), progress).message == was_closed(progress).message
