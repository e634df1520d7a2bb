"""Loopback TCP, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.api.limits import Limits
from broker.api.server import ApiServer
from broker.api.tcp import TcpListener, open_tcp, tcp_peer
from broker.errors import LocalError
from broker.events import ListenerOpened, RequestRefused, TokenServed
from broker.policy.peer import Peer
from broker.policy.rules import Policy, Workload
from tests.fakes import Events, LoopClock
from tests.unit.api.conformance import check_exchange
from tests.unit.api.world import QUICK, Client, FakeTokens, Received, parse

pytestmark = pytest.mark.real_time

SECRET = "S" * 43

BY_LISTENER = Workload(name="app", listeners=frozenset({"tcp"}), tokens=frozenset({"directory"}))


class Fixed:
    """Chance that always gives the same secret."""

    def token(self, _nbytes: int) -> str:
        return SECRET

    def uniform(self) -> float:
        return 0.5


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def listener(directory: Path, **changes: Any) -> TcpListener:
    members = {"name": "tcp", "host": "127.0.0.1", "port": 0, "secret_file": directory / "secret", **changes}
    return TcpListener(**members)


@dataclass(frozen=True)
class Served:
    server: ApiServer
    port: int
    events: Events

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def get(
        self, target: str = "/v1/tokens/directory", *, secret: str | None = SECRET, host: str | None = None
    ) -> Received:
        lines = [f"GET {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}", "Connection: close"]
        lines += [] if secret is None else [f"Authorization: Bearer {secret}"]
        raw = ("\r\n".join(lines) + "\r\n\r\n").encode()
        async with self.connect() as client:
            client.send(raw)
            answer = parse(await client.rest())
        check_exchange(raw, answer.status, answer.headers, answer.body)
        return answer


@contextlib.asynccontextmanager
async def served(
    directory: Path, *, workloads: tuple[Workload, ...] = (BY_LISTENER,), limits: Limits = QUICK
) -> AsyncIterator[Served]:
    events = Events()
    port = free_port()
    server = ApiServer(
        [listener(directory, port=port)],
        policy=Policy(workloads=workloads, own_uid=0),
        tokens=FakeTokens(),
        emit=events,
        clock=LoopClock(),
        randomness=Fixed(),
        limits=limits,
    )
    server.open()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        try:
            yield Served(server, port, events)
        finally:
            await server.drain(2.0)


async def test_who_shows_the_secret_gets_a_token(tmp_path: Path):
    """The record names the listener, and no uid, for nobody knows it."""
    async with served(tmp_path) as api:
        received = await api.get()

    (record,) = api.events.of(TokenServed)
    assert received.json()["access_token"] == "the-access-token"
    assert (record.listener, record.uid, record.gid, record.pid) == ("tcp", None, None, None)
    assert api.events.of(ListenerOpened) == [ListenerOpened(listener="tcp", address=f"http://127.0.0.1:{api.port}")]


@pytest.mark.parametrize(
    "target", ["/v1/tokens/directory", "/v1/tokens", "/livez", "/readyz", "/readyz/directory", "/"]
)
@pytest.mark.parametrize("secret", [None, "wrong"])
async def test_without_the_secret_there_is_nothing_to_be_had(tmp_path: Path, target: str, secret: str | None):
    """401 in the one shape, whatever is asked for; recorded; the connection ends with it."""
    async with served(tmp_path) as api:
        received = await api.get(target, secret=secret)

    (record,) = api.events.of(RequestRefused)
    assert (received.status, received.json()["error"]) == (401, "invalid_token")
    assert received.headers["www-authenticate"].startswith("Bearer ")
    assert received.headers["connection"] == "close"
    assert record.reason == ("secret_missing" if secret is None else "secret_wrong")
    assert record.route == "unrouted"


async def test_the_secret_does_not_name_anybody(tmp_path: Path):
    """Workloads that name users or groups match nobody here, not even root's rights to see states."""
    named = (
        Workload(name="root", uids=frozenset({0}), tokens=frozenset({"directory"})),
        Workload(name="both", listeners=frozenset({"tcp"}), gids=frozenset({0}), tokens=frozenset({"directory"})),
    )
    async with served(tmp_path, workloads=named) as api:
        received = [(await api.get(target)).status for target in ("/v1/tokens/directory", "/v1/tokens")]
        ready = await api.get("/readyz")

    assert received == [403, 403]
    assert ready.json()["tokens"] == {}


@pytest.mark.parametrize("host", ["localhost", "localhost:{}", "evil.example:{}", "token-broker"])
async def test_only_the_literal_address_is_a_host(tmp_path: Path, host: str):
    """Whatever name was made to lead here."""
    async with served(tmp_path) as api:
        received = await api.get(host=host.format(api.port))

    assert (received.status, received.json()["error"]) == (400, "invalid_request")


async def test_the_caps_count_all_of_its_callers_as_one(tmp_path: Path):
    """Nobody knows who they are."""
    async with served(tmp_path, limits=Limits(max_connections_per_uid=1)) as api, api.connect():
        await asyncio.sleep(0.01)
        received = await api.get()

    assert received.status == 429


async def test_a_request_that_does_not_come_whole_is_cut(tmp_path: Path):
    """Deadlines hold as on Unix sockets."""
    async with served(tmp_path) as api, api.connect() as client:
        client.send(b"GET /livez HT")
        received = parse(await client.rest())

    assert received.status == 408


async def test_the_secret_goes_when_the_broker_does(tmp_path: Path):
    """And nobody listens any more."""
    async with served(tmp_path) as api:
        assert (tmp_path / "secret").read_text() == SECRET

    assert not (tmp_path / "secret").exists()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", api.port)


async def test_who_comes_while_the_broker_stops_is_refused_at_once(tmp_path: Path):
    """And does not wait for nothing in a queue; who was there before is still heard."""
    limits = Limits(request_deadline=5.0)
    async with served(tmp_path, limits=limits) as api, api.connect() as early:
        line = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n"
        early.send(line.encode())
        await asyncio.sleep(0.05)
        draining = asyncio.create_task(api.server.drain(5.0))
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", api.port)
        early.send(f"Authorization: Bearer {SECRET}\r\n\r\n".encode())

        assert parse(await early.rest()).status == 200
        await draining


def test_an_address_in_use_leaves_the_secret_of_the_other_alone(tmp_path: Path):
    """It belongs to the broker that listens there."""
    opened = open_tcp(listener(tmp_path), SECRET)
    try:
        with pytest.raises(LocalError) as caught:
            open_tcp(listener(tmp_path, port=opened.port), "O" * 43)

        assert caught.value.code == "listener_in_use"
        assert (tmp_path / "secret").read_text() == SECRET
    finally:
        opened.close()


def test_a_secret_that_cannot_be_written_leaves_no_listener(tmp_path: Path):
    """Nobody could call it."""
    port = free_port()
    (tmp_path / "secret").mkdir()

    with pytest.raises(LocalError) as caught:
        open_tcp(listener(tmp_path, port=port), SECRET)

    assert caught.value.code == "listener_secret_occupied"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_an_address_that_is_not_here_is_refused_in_the_systems_words(tmp_path: Path):
    """As any other failure."""
    with pytest.raises(LocalError) as caught:
        open_tcp(listener(tmp_path, host="192.0.2.1"), SECRET)

    assert caught.value.code == "listener_failed"


def test_addresses_are_written_as_in_urls(tmp_path: Path):
    """Version 6 in brackets; and the port of http may be left out."""
    opened = open_tcp(listener(tmp_path, host="::1"), SECRET)
    try:
        assert opened.address == f"http://[::1]:{opened.port}"
        assert opened.hosts == {f"[::1]:{opened.port}"}
    finally:
        opened.close()


def test_the_peer_is_nobody():
    """There is nothing that a policy could take for a user."""
    with socket.socket() as connection:
        assert tcp_peer(connection, "tcp") == Peer(listener="tcp", uid=None, gid=None, groups=frozenset(), pid=None)
