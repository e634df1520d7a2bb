"""The API server from opening to drain, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from broker.api.limits import Limits
from broker.api.listeners import UnixListener
from broker.api.server import ApiServer
from broker.errors import LocalError
from broker.events import AuditUnavailableError, Event, ListenerOpened, RequestRefused, TokenServed
from broker.policy.rules import Policy, Workload
from tests.fakes import Dice, Events, HandClock
from tests.unit.api.world import (
    HOST,
    PATIENCE,
    QUICK,
    FakeTokens,
    parse,
    parse_all,
    request,
    served,
    serving,
    unavailable,
    until,
)

pytestmark = pytest.mark.real_time

WAITING = b"GET /v1/tokens/directory?wait=60 HTTP/1.1\r\n" + HOST + b"\r\n"


def server_on(*paths: Path, events: Events | None = None) -> ApiServer:
    return ApiServer(
        [UnixListener(name=path.stem, path=path) for path in paths],
        policy=Policy(workloads=(), own_uid=1),
        tokens=FakeTokens(),
        emit=events or Events(),
        clock=HandClock(),
        randomness=Dice(),
    )


async def test_a_token_in_one_request(tmp_path: Path):
    """What curl does."""
    async with served(tmp_path) as api:
        received = await api.get()

    assert received.status == 200
    assert received.json()["access_token"] == "the-access-token"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["cache-control"] == "no-store"


async def test_a_bare_token_in_one_request(tmp_path: Path):
    """What a shell wants; it may not be stored either."""
    async with served(tmp_path) as api:
        received = await api.get("/v1/tokens/directory", "Accept: text/plain")

    assert received.body == b"the-access-token"
    assert received.headers["content-type"] == "text/plain; charset=utf-8"
    assert received.headers["cache-control"] == "no-store"


async def test_an_error_is_json_whatever_was_asked_for(tmp_path: Path):
    """A script that wants a bare token must not take an error for one."""
    async with served(tmp_path, FakeTokens({"directory": unavailable()})) as api:
        received = await api.get("/v1/tokens/directory", "Accept: text/plain")

    assert received.status == 503
    assert received.headers["retry-after"] == "3"
    assert received.json()["error"] == "temporarily_unavailable"


async def test_the_peer_is_who_the_kernel_says(tmp_path: Path):
    """Found out for each connection, and in the record of what it got."""
    async with served(tmp_path) as api:
        await api.get()

    (record,) = api.events.of(TokenServed)
    assert (record.listener, record.uid, record.gid, record.pid) == ("app", os.geteuid(), os.getegid(), os.getpid())


async def test_each_socket_is_a_boundary_of_its_own(tmp_path: Path):
    """The same process gets other tokens on the other socket."""
    workloads = (
        Workload(name="a", listeners=frozenset({"first"}), tokens=frozenset({"directory"})),
        Workload(name="b", listeners=frozenset({"second"}), tokens=frozenset({"ledger"})),
    )
    tokens = FakeTokens({"directory": serving(), "ledger": serving()})
    async with served(tmp_path, tokens, workloads=workloads, names=("first", "second")) as api:
        first = [(await api.get(f"/v1/tokens/{name}")).status for name in ("directory", "ledger")]
        api.path = tmp_path / "second.sock"
        second = [(await api.get(f"/v1/tokens/{name}")).status for name in ("directory", "ledger")]

    assert (first, second) == ([200, 403], [403, 200])


async def test_two_hundred_callers_at_once_get_their_token(tmp_path: Path):
    """The caps leave room for one busy workload."""
    tokens = FakeTokens(held=asyncio.Event())
    async with served(tmp_path, tokens) as api, asyncio.TaskGroup() as group:
        callers = [group.create_task(api.get()) for _ in range(200)]
        await asyncio.sleep(0.1)
        assert tokens.held is not None
        tokens.held.set()

    assert [caller.result().status for caller in callers] == [200] * 200


async def test_without_its_record_no_token_leaves(tmp_path: Path):
    """503 with a time to come back, and the refusal is reported."""
    seen = Events()

    def emit(event: Event) -> None:
        seen(event)
        if isinstance(event, TokenServed):
            raise AuditUnavailableError

    async with served(tmp_path, events=emit) as api:
        received = await api.get()

    assert (received.status, received.headers["retry-after"]) == (503, "5")
    assert b"the-access-token" not in received.body
    assert [record.reason for record in seen.of(RequestRefused)] == ["audit_unavailable"]


async def test_opening_is_reported(tmp_path: Path):
    """Each socket with its address."""
    async with served(tmp_path) as api:
        pass

    assert api.events.of(ListenerOpened) == [ListenerOpened(listener="app", address=f"unix://{tmp_path}/app.sock")]


async def test_all_sockets_are_opened_or_none(tmp_path: Path):
    """A broker that serves half of its workloads would be worse than one that says why it does not start."""
    (tmp_path / "b.sock").write_text("in the way")
    events = Events()
    server = server_on(tmp_path / "a.sock", tmp_path / "b.sock", events=events)

    with pytest.raises(LocalError):
        server.open()

    assert not (tmp_path / "a.sock").exists()
    assert events.seen == []


async def test_running_without_opening_is_a_mistake():
    """It would serve nothing and say nothing."""
    with pytest.raises(RuntimeError):
        await server_on().run()


async def test_who_connects_before_run_is_answered_after_it(tmp_path: Path):
    """The kernel keeps it until then."""
    server = server_on(tmp_path / "a.sock")
    server.open()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "a.sock")
    writer.write(request("/livez"))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        received = parse(await reader.read())
        await server.drain(1.0)
    writer.close()
    await writer.wait_closed()

    assert received.status == 200


async def test_after_draining_nothing_is_left(tmp_path: Path):
    """No file, no task, no socket; who comes then sees that nobody is there."""
    before = asyncio.all_tasks()
    async with served(tmp_path) as api:
        await api.get()
        await api.server.drain(1.0)

        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(api.path)

    assert asyncio.all_tasks() == before
    assert list(tmp_path.iterdir()) == []


async def test_an_inherited_socket_is_served_and_its_file_stays(tmp_path: Path):
    """Whoever opened it keeps it, also for who connects while nobody serves."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as kept:
        kept.bind(str(path))
        kept.listen()
        before = path.stat()
        inherited = {"app": socket.socket(fileno=os.dup(kept.fileno()))}
        async with served(tmp_path, inherited=inherited) as api:
            answer = await api.get()
            await api.server.drain(1.0)
            _, writer = await asyncio.open_unix_connection(path)
            writer.close()
            await writer.wait_closed()

    after = path.stat()
    assert answer.status == 200
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert api.events.of(ListenerOpened) == [ListenerOpened(listener="app", address=f"unix://{path}")]


async def test_draining_answers_who_asks_again_on_a_connection_that_is_kept(tmp_path: Path):
    """It asked a moment ago, and could not know: its answer says that it is the last."""
    async with served(tmp_path) as api, api.connect() as client, asyncio.TaskGroup() as group:
        client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.one()
        draining = group.create_task(api.server.drain(5.0))
        await asyncio.sleep(0.1)
        client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        received = parse(await client.rest())
        await draining

    assert received.status == 200
    assert received.headers["connection"] == "close"


async def test_a_request_is_answered_or_its_sender_sees_that_no_byte_was_taken(tmp_path: Path):
    """Whatever the moment at which an idle connection is closed under it: a sent request without an answer is lost."""
    outcomes: list[str] = []  # a list, because to add to a number is more than one step

    def ask_until_closed(path: Path) -> None:
        asking = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            for _ in range(10_000):
                try:
                    client.send(asking)
                except BrokenPipeError:
                    outcomes.append("not taken")
                    return
                try:
                    answered = client.recv(65_536)
                except ConnectionResetError:
                    answered = b""
                outcomes.append("answered" if answered else "lost")

    limits = Limits(idle_timeout=0.0)
    async with served(tmp_path, limits=limits) as api:
        await asyncio.gather(*(asyncio.to_thread(ask_until_closed, api.path) for _ in range(200)))

    assert outcomes.count("lost") == 0
    assert outcomes.count("not taken") == 200


async def test_draining_closes_what_is_idle_soon(tmp_path: Path):
    """A kept-alive connection keeps nobody waiting for longer than a moment."""
    loop = asyncio.get_running_loop()
    async with served(tmp_path) as api, api.connect() as client:
        client.send(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.one()
        began = loop.time()

        await api.server.drain(5.0)

        assert await client.rest() == b""
        assert loop.time() - began < 1.5


async def test_draining_answers_who_waits_at_once(tmp_path: Path):
    """503 and a time to come back, on a connection that is closed with it."""
    loop = asyncio.get_running_loop()
    tokens = FakeTokens({"directory": unavailable()}, held=asyncio.Event())
    async with served(tmp_path, tokens) as api, api.connect() as client:
        client.send(WAITING)
        await until(lambda: tokens.asked)
        began = loop.time()

        await api.server.drain(5.0)
        received = parse(await client.rest())

    assert (received.status, received.json()["error"]) == (503, "temporarily_unavailable")
    assert received.headers["retry-after"]
    assert received.headers["connection"] == "close"
    assert loop.time() - began < 1.5
    assert [record.reason for record in api.events.of(RequestRefused)] == ["draining"]


async def test_a_replaced_policy_decides_the_next_request(tmp_path: Path):
    """On connections that are open already, too."""
    async with served(tmp_path) as api:
        before = await api.get()
        api.server.replace_policy(Policy(workloads=(), own_uid=2**31))
        after = await api.get()

    assert (before.status, after.status) == (200, 403)


async def test_a_right_that_is_removed_while_its_caller_waits_is_gone(tmp_path: Path):
    """The policy is evaluated again on waking (local-api.md); no token is recorded as served."""
    tokens = FakeTokens(held=asyncio.Event())
    async with served(tmp_path, tokens) as api, api.connect() as client:
        client.send(WAITING)
        await until(lambda: tokens.asked)
        api.server.replace_policy(Policy(workloads=(), own_uid=2**31))
        assert tokens.held is not None
        tokens.held.set()
        await until(lambda: api.events.of(RequestRefused))

    assert [record.status for record in api.events.of(RequestRefused)] == [403]
    assert api.events.of(TokenServed) == []


async def test_draining_lets_a_request_that_is_arriving_be_answered(tmp_path: Path):
    """It had begun; it has its deadline, as ever."""
    async with served(tmp_path) as api, api.connect() as client, asyncio.TaskGroup() as group:
        client.send(b"GET /livez HTTP/1.1\r\n")
        await asyncio.sleep(0.02)
        draining = group.create_task(api.server.drain(5.0))
        await asyncio.sleep(0.02)
        client.send(HOST + b"\r\n")
        received = parse(await client.rest())
        await draining

    assert received.status == 200
    assert received.headers["connection"] == "close"


async def test_draining_lets_a_new_connection_ask_once(tmp_path: Path):
    """It was accepted, so its first request is on its way."""
    async with served(tmp_path) as api, api.connect() as client, asyncio.TaskGroup() as group:
        await asyncio.sleep(0.02)
        draining = group.create_task(api.server.drain(5.0))
        await asyncio.sleep(0.02)
        client.send(WAITING)
        received = parse_all(await client.rest())
        await draining

    assert [answer.status for answer in received] == [200]


async def test_draining_does_not_wait_for_who_was_cut(tmp_path: Path):
    """It had its answer; it was only read on so that it could see it."""
    loop = asyncio.get_running_loop()
    async with served(tmp_path, limits=QUICK) as api, api.connect() as client:
        client.send(b"GET /li")
        await asyncio.sleep(QUICK.request_deadline + 0.05)
        began = loop.time()

        await api.server.drain(5.0)

        assert parse(await client.rest()).status == 408
        assert loop.time() - began < 1.5


async def test_draining_has_an_end_also_when_a_client_does_not_read(tmp_path: Path):
    """It is cut when the time is over."""
    loop = asyncio.get_running_loop()
    tokens = FakeTokens({"directory": serving(scope=("x" * 4_000_000,))})
    async with served(tmp_path, tokens, limits=Limits(write_deadline=60.0)) as api, api.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(request())
        await asyncio.sleep(0.1)
        began = loop.time()

        await api.server.drain(0.1)

        assert loop.time() - began < 2.0


async def test_a_cancelled_run_can_still_be_drained(tmp_path: Path):
    """A daemon that fails on the way leaves no socket behind."""
    server = server_on(tmp_path / "a.sock")
    server.open()
    running = asyncio.get_running_loop().create_task(server.run())
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await server.drain(1.0)

    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_cannot_be_removed_does_not_keep_the_others_open(tmp_path: Path):
    """Everything is drained and closed; then it is said."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    server = server_on(tmp_path / "a" / "a.sock", tmp_path / "b" / "b.sock")
    server.open()
    # A path that leads through a file cannot even be looked at, which root may not do either.
    (tmp_path / "a").rename(tmp_path / "moved")
    (tmp_path / "a").write_text("")

    with pytest.raises(LocalError) as caught:
        await server.drain(0.1)

    assert caught.value.code == "listener_failed"
    assert not (tmp_path / "b" / "b.sock").exists()


async def test_no_request_leaves_a_descriptor_open(tmp_path: Path):
    """Whatever it was: served, refused, malformed, too large, or on a connection over the cap."""

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    raws = [request(), request("/nowhere"), b"\0\r\n\r\n", b"GET /livez HTTP/1.1\r\nX: " + b"a" * 9_000]
    async with served(tmp_path, limits=Limits(max_connections_per_uid=2, idle_timeout=0.05)) as api:
        await api.get()
        before = descriptors()
        for raw in raws * 5:
            async with api.connect(), api.connect(), api.connect() as client:
                client.send(raw)
                await client.rest()

        await until(lambda: descriptors() <= before)
