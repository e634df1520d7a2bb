"""Connections that are held, from their acceptance to their end; what is answered on them is in test_at_once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.api.desk import Desk
from broker.api.fast_path import AT_ONCE, READ_BYTES, Lobby
from broker.api.limits import ConnectionLedger, Limits
from broker.api.listeners import UnixListener
from broker.api.protocol import Connection
from broker.api.server import ApiServer
from broker.api.tcp import TcpListener
from broker.events import RequestAnswered, TokenServed, UnexpectedFailure
from broker.oauth.secret import AccessToken
from broker.policy.peer import Peer
from broker.policy.rules import Policy
from tests.fakes import Dice, Events, HandClock
from tests.unit.api import world
from tests.unit.api.world import (
    HOST,
    QUICK,
    Client,
    FakeTokens,
    Served,
    Way,
    parse,
    parse_all,
    request,
    served,
    serving,
    until,
)

pytestmark = pytest.mark.real_time

GOOD = b"GET /v1/tokens/directory HTTP/1.1\r\n" + HOST + b"\r\n"
LAST = request()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers go the fast path."""
    monkeypatch.setattr(world, "CHOSEN", [Way.FAST])


def lobby_of(api: Served) -> Lobby:
    assert api.server._service is not None
    return api.server._service._lobby


def aiohttps(api: Served) -> list[Connection]:
    """Give the connections that aiohttp has."""
    assert api.server._service is not None
    return api.server._service._engine.connections  # type: ignore[return-value]


@contextlib.asynccontextmanager
async def taught(directory: Path, **options: Any) -> AsyncIterator[Served]:
    """Serve, and have GOOD and LAST known."""
    async with served(directory, **options) as api:
        for raw in (GOOD, LAST):
            async with api.connect() as client:
                client.send(raw)
                await client.one()
        await until(lambda: not aiohttps(api))
        api.events.seen.clear()
        yield api


async def held(api: Served, client: Client, raw: bytes = GOOD) -> None:
    """Have a request answered on the fast path."""
    client.send(raw)
    assert (await client.one()).status == 200
    assert lobby_of(api).held == 1
    assert not aiohttps(api)


async def test_a_request_that_is_known_needs_no_aiohttp(tmp_path: Path):
    """Nor do those that follow; each is recorded and counted."""
    async with taught(tmp_path) as api, api.connect() as client:
        for _ in range(3):
            await held(api, client)

        assert len(api.events.of(TokenServed)) == 3
        assert [event.outcome for event in api.events.of(RequestAnswered)] == ["ok"] * 3


async def test_a_request_that_ends_its_connection_ends_it(tmp_path: Path):
    """As it says in its answer."""
    async with taught(tmp_path) as api, api.connect() as client:
        client.send(LAST)
        (received,) = parse_all(await client.rest())

        assert received.headers["connection"] == "close"
        assert not lobby_of(api).held
        assert not aiohttps(api)


@pytest.mark.parametrize(
    "raw", [GOOD[:20], GOOD + GOOD, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n", b"\0\r\n\r\n", b"a" * READ_BYTES * 3]
)
async def test_anything_else_goes_to_aiohttp_with_all_that_was_read(tmp_path: Path, raw: bytes):
    """Also after requests that were known."""
    async with taught(tmp_path) as api, api.connect() as client:
        await held(api, client)
        client.send(raw)
        await until(lambda: not lobby_of(api).held)
        client.writer.write_eof()
        received = parse_all(await client.rest())

        assert [answer.status for answer in received] in ([], [400], [431], [200], [200, 200])


async def test_a_connection_that_is_aiohttps_is_fast_again_between_two_requests(tmp_path: Path):
    """The program that asks for the first time teaches, and need not come back on another connection."""
    async with served(tmp_path) as api, api.connect() as client:
        asked: list[int] = []
        answer = Desk.answer

        async def answered(self: Any, *arguments: Any) -> Any:
            asked.append(1)
            return await answer(self, *arguments)

        api.server._desk.answer = answered.__get__(api.server._desk)  # type: ignore[method-assign]
        for _ in range(5):
            client.send(GOOD)
            assert (await client.one()).status == 200

        assert len(asked) == 1
        assert len(aiohttps(api)) == 1


@pytest.mark.parametrize(
    "before",
    [
        b"POST /v1/tokens/directory/refresh HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        GOOD + GOOD,
        b"\r\n" + GOOD,
        GOOD[:30],
    ],
)
async def test_whatever_came_before_what_is_known_is_answered(tmp_path: Path, before: bytes):
    """In its turn, by whoever can."""
    async with taught(tmp_path) as api, api.connect() as client:
        client.send(before)
        await asyncio.sleep(0.05)
        client.send(GOOD[30:] + LAST if before == GOOD[:30] else LAST)
        received = parse_all(await client.rest())

        assert received[-1].status == 200
        assert received[-1].headers["connection"] == "close"


async def test_a_connection_that_is_idle_for_too_long_is_closed(tmp_path: Path):
    """Before its first request and after it."""
    async with taught(tmp_path, limits=QUICK) as api:
        async with api.connect() as client:
            assert await client.rest() == b""
        async with api.connect() as client:
            began = asyncio.get_running_loop().time()
            await held(api, client)
            await asyncio.sleep(0.2)
            await held(api, client)
            assert await client.rest() == b""
            assert 0.5 < asyncio.get_running_loop().time() - began < 5.0
        assert not lobby_of(api).held


async def test_a_connection_that_is_too_old_ends_with_its_next_answer(tmp_path: Path):
    """Who is at its other end was found out when it began."""
    async with taught(tmp_path, limits=Limits(max_connection_age=-1.0)) as api, api.connect() as client:
        client.send(GOOD)
        (received,) = parse_all(await client.rest())

        assert received.headers["connection"] == "close"


async def test_who_asks_too_often_is_refused(tmp_path: Path):
    """By the same bucket, whichever way the requests go."""
    async with taught(tmp_path, limits=Limits(max_requests_per_second_per_uid=5)) as api, api.connect() as client:
        await asyncio.sleep(1.0)
        statuses = []
        for _ in range(7):
            client.send(GOOD)
            statuses.append((await client.one()).status)

        assert statuses[:5] == [200] * 5
        assert 429 in statuses


async def test_connections_over_the_cap_are_told_so(tmp_path: Path):
    """Held ones count like the others, and give their places back."""
    async with taught(tmp_path, limits=Limits(max_connections_per_uid=1)) as api:
        async with api.connect() as client:
            await held(api, client)
            async with api.connect() as other:
                other.send(GOOD)
                assert (await other.one()).status == 429
        await until(lambda: not lobby_of(api).held)
        async with api.connect() as client:
            await held(api, client)


async def test_answers_that_nobody_reads_wait_their_time_and_are_not_mixed_up(tmp_path: Path):
    """aiohttp's transport takes over the rest of the one that the socket did not take."""
    tokens = FakeTokens({"directory": serving(access_token=AccessToken("t" * 60_000))})
    async with taught(tmp_path, tokens=tokens) as api, api.connect() as client:
        await held(api, client)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        count = 0
        while not aiohttps(api):
            client.send(GOOD)
            count += 1
            await asyncio.sleep(0.005)
        client.send(LAST)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = parse_all(await client.rest())

        assert [answer.status for answer in received] == [200] * (count + 1)
        assert {len(answer.json()["access_token"]) for answer in received} == {60_000}


async def test_a_caller_that_takes_no_answer_is_cut_off(tmp_path: Path):
    """Its time to take one is what it is for everybody."""
    tokens = FakeTokens({"directory": serving(access_token=AccessToken("t" * 60_000))})
    async with taught(tmp_path, tokens=tokens, limits=QUICK) as api:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.setblocking(False)
            caller.connect(str(api.path))
            while not aiohttps(api):
                caller.send(GOOD)
                await asyncio.sleep(0.005)
            await until(lambda: not aiohttps(api))

        assert not lobby_of(api).held


async def test_a_drain_ends_what_was_answered_and_answers_what_is_about_to_ask(tmp_path: Path):
    """The first request of a new connection may be on its way."""
    async with taught(tmp_path) as api, api.connect() as asked, api.connect() as new:
        asked.send(GOOD)
        await asked.one()
        await until(lambda: lobby_of(api).held == 2)
        draining = asyncio.create_task(api.server.drain(2.0))
        assert await asked.rest() == b""
        new.send(GOOD)
        (received,) = parse_all(await new.rest())
        await draining

        assert (received.status, received.headers["connection"]) == (200, "close")


async def test_a_drain_does_not_wait_for_who_never_asks(tmp_path: Path):
    """Nor longer than it may."""
    async with taught(tmp_path) as api, api.connect() as client:
        await until(lambda: lobby_of(api).held)
        began = asyncio.get_running_loop().time()
        await api.server.drain(0.1)

        assert await client.rest() == b""
        assert asyncio.get_running_loop().time() - began < 1.0


async def test_a_bug_costs_its_connection_and_is_reported(tmp_path: Path):
    """Those that asked in the same turn, and those that come, are served."""
    async with taught(tmp_path) as api, api.connect() as unlucky, api.connect() as other:
        await until(lambda: lobby_of(api).held == 2)
        known = next(iter(lobby_of(api)._held.values())).known
        next(iter(lobby_of(api)._held.values())).known = None  # type: ignore[assignment]
        assert known is not None
        for client in (unlucky, other):
            client.send(GOOD)

        assert await unlucky.rest() == b""
        assert (await other.one()).status == 200
        assert [bug.where for bug in api.events.of(UnexpectedFailure)] == ["fast_path"]
        assert lobby_of(api).held == 1


async def test_a_connection_that_cannot_be_watched_goes_to_aiohttp(tmp_path: Path):
    """The system has a limit of its own for that; nobody waits for ever."""
    async with taught(tmp_path) as api:

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "no more watches")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(lobby_of(api), "_watch", full)
            async with api.connect() as client:
                await until(lambda: aiohttps(api))
                client.send(GOOD)

                assert (await client.one()).status == 200
                assert lobby_of(api).held == 0


async def test_more_than_are_served_in_one_turn_are_served_in_the_next(tmp_path: Path):
    """Nobody is forgotten."""
    async with taught(tmp_path) as api, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(api.connect()) for _ in range(AT_ONCE + 10)]
        await until(lambda: lobby_of(api).held == len(clients))
        for _ in range(2):
            for client in clients:
                client.send(GOOD)
            assert {(await client.one()).status for client in clients} == {200}

        assert len(api.events.of(TokenServed)) == 2 * len(clients)
        assert sum(event.requests for event in api.events.of(RequestAnswered)) == 2 * len(clients)


async def test_those_that_ask_together_are_counted_together(tmp_path: Path):
    """And each is recorded with its own pid."""
    async with taught(tmp_path) as api:
        lobby, ends = lobby_of(api), [socket.socketpair() for _ in range(3)]
        try:
            for pid, (ours, _) in enumerate(ends, 1):
                peer = Peer(listener="app", uid=os.getuid(), gid=os.getgid(), groups=frozenset(os.getgroups()), pid=pid)
                lobby.enter(ours, peer, ConnectionLedger(Limits()).admit(1))
            for _, theirs in ends:
                theirs.send(GOOD)
            lobby.serve_new()
            received = [parse(theirs.recv(65_536)).status for _, theirs in ends]
        finally:
            for _, theirs in ends:
                theirs.close()

        assert received == [200] * 3
        assert [event.pid for event in api.events.of(TokenServed)] == [1, 2, 3]
        assert [event.requests for event in api.events.of(RequestAnswered)] == [3]


async def test_without_the_setting_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The way without the fast path is as it was."""
    monkeypatch.setattr(world, "CHOSEN", [Way.PLAIN])
    async with served(tmp_path) as api, api.connect() as client:
        for _ in range(3):
            client.send(GOOD)
            await client.one()

        assert not lobby_of(api).held
        assert len(lobby_of(api)._memo) == 0


def test_only_unix_sockets_of_the_api_itself_go_the_fast_path(tmp_path: Path):
    """Over TCP each request shows its secret, and what stands for an API has no route for tokens."""
    listeners: list[UnixListener | TcpListener] = [
        UnixListener(name="app", path=tmp_path / "app.sock"),
        UnixListener(name="bank", path=tmp_path / "bank.sock"),
        TcpListener(name="tcp", host="127.0.0.1", port=0, secret_file=tmp_path / "secret"),
    ]
    server = ApiServer(
        listeners,
        policy=Policy(workloads=(), own_uid=1),
        tokens=FakeTokens(),
        emit=Events(),
        clock=HandClock(),
        randomness=Dice(),
        bases={"bank": "bank"},
        fast_path=True,
    )

    assert server._fast == {"app"}
