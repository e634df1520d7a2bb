"""The ops listener, over a real TCP socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from broker.api.ops import OPS_LIMITS, OPS_ROUTES, OpsServer
from broker.api.protocol import IDLE_ENOUGH
from broker.errors import LocalError
from broker.events import ListenerOpened, RequestAnswered, RequestRefused
from broker.tokens.serving import TokenState, TokenStatus
from tests.fakes import Dice, Events, LoopClock
from tests.unit.api.conformance import check_exchange
from tests.unit.api.world import Client, FakeTokens, Received, parse, request, serving

pytestmark = pytest.mark.real_time

UNAVAILABLE = TokenStatus(name="ledger", state=TokenState.UNAVAILABLE, required=True, reason="connect_failed")


class Ops:
    def __init__(self, server: OpsServer, events: Events) -> None:
        self.server = server
        self.events = events

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def exchange(self, raw: bytes) -> Received:
        async with self.connect() as client:
            client.send(raw)
            answer = parse(await client.rest())
        check_exchange(raw, answer.status, answer.headers, answer.body, OPS_ROUTES)
        return answer

    async def get(self, target: str, *headers: str) -> Received:
        return await self.exchange(request(target, *headers))


async def metrics_page() -> tuple[bytes, str]:
    return b"token_broker_grants 1\n", "text/plain; version=0.0.4; charset=utf-8"


@contextlib.asynccontextmanager
async def ops(tokens: FakeTokens | None = None, **options: Any) -> AsyncIterator[Ops]:
    events = Events()
    server = OpsServer(
        "127.0.0.1",
        0,
        tokens=tokens or FakeTokens({"directory": serving(), "ledger": serving()}),
        render=metrics_page,
        emit=events,
        clock=LoopClock(),
        randomness=Dice(),
        **options,
    )
    server.open()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        try:
            yield Ops(server, events)
        finally:
            await server.drain(2.0)


async def test_metrics_come_as_they_were_rendered():
    """With the content type that the scraper reads them by."""
    async with ops() as listener:
        received = await listener.get("/metrics")

    assert received.body == b"token_broker_grants 1\n"
    assert received.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert received.headers["cache-control"] == "no-store"


async def test_health_names_every_token():
    """Whoever reaches this listener may know the names."""
    async with ops(
        FakeTokens({"directory": serving(), "ledger": serving()}, states={"ledger": UNAVAILABLE})
    ) as listener:
        alive, ready = await listener.get("/livez"), await listener.get("/readyz")

    assert alive.json() == {"status": "ok"}
    assert ready.status == 503
    assert list(ready.json()["tokens"]) == ["directory", "ledger"]
    assert ready.json()["status"] == "not_ready"


async def test_each_token_has_a_readiness_of_its_own():
    """For a program that needs one of them, required or not."""
    async with ops(
        FakeTokens({"directory": serving(), "ledger": serving()}, states={"ledger": UNAVAILABLE})
    ) as listener:
        good, bad, unknown = [await listener.get(f"/readyz/{name}") for name in ("directory", "ledger", "nothing")]

    assert (good.status, good.json()["status"]) == (200, "ready")
    assert (bad.status, bad.json()["status"], bad.json()["reason"]) == (503, "not_ready", UNAVAILABLE.reason)
    assert unknown.status == 404


async def test_a_token_that_is_not_ready_is_counted_and_not_audited():
    """A probe that fails every second is not a refusal of anything."""
    async with ops(FakeTokens({"ledger": serving()}, states={"ledger": UNAVAILABLE})) as listener:
        await listener.get("/readyz")

    assert listener.events.of(RequestRefused) == []
    assert [event.outcome for event in listener.events.of(RequestAnswered)] == ["temporarily_unavailable"]


async def test_a_sandbox_issuer_shows():
    """It has to be seen by whoever looks at health."""
    async with ops(sandbox=lambda: ("play",)) as listener:
        received = await listener.get("/readyz")

    assert received.json()["sandbox"] == ["play"]


async def test_headers_do_not_matter():
    """Probes and scrapers come through proxies, with any Host."""
    raw = b"GET /livez HTTP/1.1\r\nHost: 10.1.2.3:9\r\nVia: 1.1 x\r\nX-Forwarded-For: y\r\nConnection: close\r\n\r\n"

    async with ops() as listener:
        received = await listener.exchange(raw)

    assert received.status == 200


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "TRACE"])
async def test_only_get_is_answered(method: str):
    """405 with Allow."""
    async with ops() as listener:
        received = await listener.exchange(request("/metrics", method=method))

    assert (received.status, received.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("target", ["/v1/tokens", "/v1/tokens/directory", "/", "/metrics/"])
async def test_tokens_are_not_to_be_had_here(target: str):
    """The route does not exist."""
    async with ops() as listener:
        received = await listener.get(target)

    assert (received.status, received.json()["error"]) == (404, "not_found")


async def test_a_malformed_request_has_the_one_shape():
    """Here, too."""
    async with ops() as listener:
        received = await listener.exchange(b"\x16\x03\x01 canary\r\n\r\n")

    assert received.status == 400
    assert received.json()["error"] == "invalid_request"
    assert b"canary" not in received.body
    (record,) = listener.events.of(RequestRefused)
    assert (record.listener, record.uid, record.pid) == ("ops", None, None)


async def test_opening_says_where():
    """A configured port 0 has become a real one."""
    async with ops() as listener:
        port = listener.server.port

    assert port != 0
    assert listener.events.of(ListenerOpened) == [ListenerOpened(listener="ops", address=f"http://127.0.0.1:{port}")]


async def test_an_idle_connection_is_closed_after_two_seconds():
    """All callers share the places, so nobody keeps one for nothing."""
    loop = asyncio.get_running_loop()
    async with ops() as listener, listener.connect() as client:
        began = loop.time()
        received = await client.rest()
        took = loop.time() - began

    assert received == b""
    assert OPS_LIMITS.idle_timeout == 2.0
    assert took >= 1.9


async def test_idle_connections_do_not_keep_a_probe_out():
    """When all places are taken, who has been idle longest leaves; the others stay."""
    limits = replace(OPS_LIMITS, max_connections=8, max_connections_per_uid=8, idle_timeout=60.0)
    async with ops(limits=limits) as listener, contextlib.AsyncExitStack() as stack:
        oldest = await stack.enter_async_context(listener.connect())
        await asyncio.sleep(0.05)
        others = [await stack.enter_async_context(listener.connect()) for _ in range(7)]
        for half in others[:3]:
            half.send(b"GET /metrics HTTP/1.1\r\nHost:")  # and no more of it
        await asyncio.sleep(IDLE_ENOUGH + 0.1)
        first = (await listener.get("/readyz")).status
        left = [await oldest.rest(), *(client.reader.at_eof() for client in others)]
        statuses = [(await listener.get("/livez")).status for _ in range(20)]

    assert first == 200
    assert left == [b"", *[False] * 7]
    assert statuses == [200] * 20
    assert listener.events.of(RequestRefused) == []


async def test_an_address_in_use_is_refused_with_a_hint():
    """Nothing stays open."""
    async with ops() as listener:
        second = OpsServer(
            "127.0.0.1",
            listener.server.port,
            tokens=FakeTokens(),
            render=metrics_page,
            emit=Events(),
            clock=LoopClock(),
            randomness=Dice(),
        )
        with pytest.raises(LocalError) as caught:
            second.open()
        await second.drain(0.1)

    assert caught.value.code == "ops_listener_failed"
    assert caught.value.hint


async def test_running_without_opening_is_a_mistake():
    """It would serve nothing and say nothing."""
    server = OpsServer(
        "127.0.0.1",
        0,
        tokens=FakeTokens(),
        render=metrics_page,
        emit=Events(),
        clock=LoopClock(),
        randomness=Dice(),
    )

    with pytest.raises(RuntimeError):
        await server.run()


def test_no_route_of_it_hands_out_a_token():
    """Nobody is asked who they are here."""
    assert [route.template for route in OPS_ROUTES] == [
        "/livez",
        "/readyz",
        "/readyz/{name}",
        "/metrics",
        "/openapi.json",
    ]
