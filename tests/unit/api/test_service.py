"""Accepting connections, whatever the system says."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.api import problems
from broker.api.answers import Answer, PassedAnswer, problem_answer
from broker.api.desk import Asked, ReadBody
from broker.api.guard import Incoming
from broker.api.limits import REFUSAL_PLACES_PER_UID, Limits
from broker.api.memo import Recall
from broker.api.problems import Problem
from broker.api.protocol import IDLE_ENOUGH, LOOK_EVERY, Connection
from broker.api.service import Listening, Service, _Acceptor
from broker.api.table import Offer
from broker.events import AcceptFailed
from broker.policy.peer import Peer
from broker.tokens.calls import Body
from tests.fakes import Events
from tests.unit.api.world import PATIENCE, Client, Way, parse, request, until, way

pytestmark = pytest.mark.real_time


class HeldStream:
    """A reply with one piece, whose end comes when it is told to."""

    def __init__(self) -> None:
        self.pieces = [b"piece"]
        self.begun, self.over = False, asyncio.Event()

    async def read(self) -> bytes:
        if self.pieces:
            return self.pieces.pop()
        self.begun = True
        await self.over.wait()
        return b""

    async def end(self, *, whole: bool) -> None:
        pass


class FakeDesk:
    """Answers everything with the name of the listener."""

    def __init__(self) -> None:
        self.refused: list[Problem] = []
        self.bugs: list[str] = []
        self.held: asyncio.Event | None = None
        self.stream: HeldStream | None = None
        self.asked = 0
        self.cancelled = 0

    async def answer(self, incoming: Incoming, peer: Peer, read_body: ReadBody, body: Body | None = None) -> Answer:
        self.asked += 1
        if self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.stream is not None:
            return PassedAnswer(fields=(), stream=self.stream, body=b"")
        return Answer(body=peer.listener.encode())

    def learn(self, recall: Recall, piece: bytes, incoming: Incoming, *, last: bool) -> None:
        """Keep nothing."""

    def turn(self) -> int:
        return 0

    def answer_at_once(self, turn: int, asked: Asked) -> Sequence[Offer | None]:
        raise AssertionError("nothing was parsed")

    def refuse(self, problem: Problem, peer: Peer) -> Answer:
        self.refused.append(problem)
        return problem_answer(problem)

    def report_bug(self, where: str, error: BaseException) -> str:
        self.bugs.append(f"{where} {type(error).__name__}")
        return "incident"


class Stubborn(socket.socket):
    """A listening socket on which accept fails as told."""

    failures: list[OSError]
    stillborn = 0
    exhausted_after: int | None = None

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            raise self.failures.pop(0)
        if self.exhausted_after is not None:
            self.exhausted_after -= 1
            if self.exhausted_after < 0:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        connection, address = super().accept()
        if self.stillborn:
            self.stillborn -= 1
            connection.close()  # the loop cannot make a transport of it
        return connection, address


def identify(_connection: socket.socket) -> Peer:
    return Peer(listener="app", uid=1000)


@dataclass(frozen=True)
class Running:
    service: Service
    desk: FakeDesk
    events: Events
    listening: Stubborn


@contextlib.asynccontextmanager
async def running(
    path: Path,
    *failures: OSError,
    limits: Limits | None = None,
    who: Callable[[socket.socket], Peer] = identify,
    handed_on: bool = False,
) -> AsyncIterator[Running]:
    desk, events = FakeDesk(), Events()
    service = Service(desk, limits=limits or Limits(), emit=events, accept_pause=0.05)
    with Stubborn(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as listening:
        listening.failures = list(failures)
        listening.bind(str(path))
        listening.listen()
        async with asyncio.TaskGroup() as group:
            here = Listening(name="app", sock=listening, identify=who, handed_on=handed_on, fast=way() is not Way.PLAIN)
            group.create_task(service.run([here]))
            try:
                yield Running(service, desk, events, listening)
            finally:
                await service.drain(1.0)


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(path: Path) -> bytes:
    async with connected(path) as client:
        client.send(request())
        return await client.rest()


async def test_a_connection_is_accepted_and_answered(tmp_path: Path):
    """With the peer that was found out."""
    async with running(tmp_path / "s"):
        assert parse(await exchange(tmp_path / "s")).body == b"app"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_an_exhausted_system_costs_a_pause_and_one_report(tmp_path: Path, number: int):
    """Who connects meanwhile waits in the backlog and is answered when it is over."""
    failures = [OSError(number, os.strerror(number)) for _ in range(3)]

    async with running(tmp_path / "s", *failures) as bench:
        received = parse(await exchange(tmp_path / "s"))

    assert received.body == b"app"
    assert bench.events.of(AcceptFailed) == [AcceptFailed(listener="app", reason=errno.errorcode[number])]


async def test_another_outage_is_another_report(tmp_path: Path):
    """A report says that one began; when connections are accepted again, it has ended."""
    path = tmp_path / "s"
    async with running(path, OSError(errno.EMFILE, "")) as bench:
        await exchange(path)
        bench.listening.failures = [OSError(errno.EMFILE, ""), OSError(errno.EMFILE, "")]
        await exchange(path)

    assert len(bench.events.of(AcceptFailed)) == 2


async def test_a_connection_that_is_gone_when_it_is_accepted_is_nothing(tmp_path: Path):
    """No pause, no report."""
    async with running(tmp_path / "s", ConnectionAbortedError()) as bench:
        assert parse(await exchange(tmp_path / "s")).status == 200

    assert bench.events.seen == []


async def test_a_peer_that_cannot_be_found_out_is_not_served(tmp_path: Path):
    """Its connection is closed, and the next one is accepted."""
    answers: list[Exception | Peer] = [OSError(errno.ENOTCONN, "who"), ValueError("canary"), Peer(listener="app")]

    def who(_connection: socket.socket) -> Peer:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with running(tmp_path / "s", who=who) as bench:
        received = [await exchange(tmp_path / "s") for _ in range(3)]

    assert received[:2] == [b"", b""]
    assert parse(received[2]).status == 200
    assert bench.desk.bugs == ["accept OSError", "accept ValueError"]


async def test_a_connection_that_cannot_begin_gives_its_place_back(tmp_path: Path):
    """Whatever went wrong, it does not count for ever."""
    path = tmp_path / "s"
    async with running(path, limits=Limits(max_connections=1)) as bench:
        bench.listening.stillborn = 3
        received = [await exchange(path) for _ in range(4)]

    assert received[:3] == [b"", b"", b""]
    assert parse(received[3]).status == 200
    assert len(bench.desk.bugs) == 3


async def test_connections_over_the_cap_are_told_so(tmp_path: Path):
    """And those that hold a place are not disturbed."""
    path = tmp_path / "s"
    async with running(path, limits=Limits(max_connections_per_uid=1)) as bench, connected(path) as first:
        await asyncio.sleep(0.01)
        received = parse(await exchange(path))
        first.send(request())

        assert parse(await first.rest()).body == b"app"

    assert (received.status, received.headers["retry-after"]) == (429, "1")
    assert received.headers["connection"] == "close"
    assert bench.desk.refused == [problems.TOO_MANY_CONNECTIONS]


async def test_a_place_is_free_again_when_its_connection_ends(tmp_path: Path):
    """However it ended."""
    path = tmp_path / "s"
    async with running(path, limits=Limits(max_connections=1)):
        received = [parse(await exchange(path)).status for _ in range(5)]
        async with connected(path):
            pass  # it never asked for anything
        await asyncio.sleep(0.05)
        received.append(parse(await exchange(path)).status)

    assert received == [200] * 6


async def test_beyond_that_connections_are_closed_unheard(tmp_path: Path):
    """Telling many would cost too much; it is recorded all the same."""
    path = tmp_path / "s"
    async with running(path, limits=Limits(max_connections=0)) as bench, contextlib.AsyncExitStack() as stack:
        for _ in range(REFUSAL_PLACES_PER_UID):
            await stack.enter_async_context(connected(path))
        received = await exchange(path)

        assert received == b""
        assert bench.desk.refused == [problems.CONNECTION_DROPPED]


async def test_draining_cuts_what_does_not_end(tmp_path: Path):
    """After its time; the handler is cancelled and no task is left."""
    path = tmp_path / "s"
    before = asyncio.all_tasks()
    async with running(path) as bench:
        bench.desk.held = asyncio.Event()
        async with connected(path) as client:
            client.send(request())
            await until(lambda: bench.desk.asked)
            await bench.service.drain(0.1)

            assert await client.rest() == b""

    assert bench.desk.cancelled == 1
    assert asyncio.all_tasks() == before


async def test_connections_that_the_kernel_has_taken_are_answered_before_the_end(tmp_path: Path):
    """Whoever connected before the drain is not lost."""
    path = tmp_path / "s"
    async with running(path) as bench:
        await asyncio.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(str(path))  # no turn of the loop in between: nobody has accepted it yet
            early.send(request())
            await bench.service.drain(1.0)

            received = early.recv(65_536)

    assert parse(received).body == b"app"


async def test_who_waits_at_a_socket_that_is_handed_on_is_left_to_the_next(tmp_path: Path):
    """What was accepted is answered; what was not is neither answered nor refused, and is there for who comes next."""
    path = tmp_path / "s"
    async with running(path, handed_on=True) as bench, connected(path) as accepted:
        await asyncio.sleep(0.02)
        accepted.send(request())
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(str(path))  # no turn of the loop in between: nobody has accepted it yet
            late.send(request())
            await bench.service.drain(1.0)
            answer = parse(await accepted.rest())
            served, _ = bench.listening.accept()
            with served:
                waiting = served.recv(65_536)

    assert answer.body == b"app"
    assert waiting == request()
    assert bench.desk.asked == 1


async def test_a_drain_during_a_pause_does_not_wait_for_its_end(tmp_path: Path):
    """The pause ends with the service."""
    path = tmp_path / "s"
    loop = asyncio.get_running_loop()
    async with running(path, *[OSError(errno.EMFILE, "")] * 1_000) as bench:
        bench.service._accept_pause = 60.0
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(str(path))
            await asyncio.sleep(0.02)
            began = loop.time()
            await bench.service.drain(5.0)

    assert len(bench.events.of(AcceptFailed)) == 1
    assert loop.time() - began < 2.0


async def test_draining_twice_or_before_running_does_no_harm():
    """Every way out may call it."""
    service = Service(FakeDesk(), limits=Limits(), emit=Events())

    await service.drain(0.1)
    await service.drain(0.1)


async def test_five_hundred_callers_at_once_are_all_served(tmp_path: Path):
    """All that are there are accepted in one turn of the loop, and none waits for another to begin."""
    path, count = tmp_path / "s", 500
    async with running(path, limits=Limits(max_connections=count, max_connections_per_uid=count)) as bench:
        bench.listening.listen(1_024)
        bench.desk.held = asyncio.Event()
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
            for caller in callers:  # no turn of the loop in between
                caller.connect(str(path))
                caller.send(request())
            await until(lambda: bench.desk.asked == count)
            bench.desk.held.set()
            await bench.service.drain(PATIENCE)

            assert [parse(caller.recv(65_536)).body for caller in callers] == [b"app"] * count
    assert bench.desk.refused == []


@pytest.mark.parametrize(("total", "per_uid"), [(100, 100), (500, 100), (100, 500)])
async def test_a_crowd_finds_exactly_as_many_places_as_there_are(tmp_path: Path, total: int, per_uid: int):
    """Not one more is let in because many came in the same turn of the loop."""
    path, count = tmp_path / "s", 300
    async with running(path, limits=Limits(max_connections=total, max_connections_per_uid=per_uid)) as bench:
        bench.listening.listen(1_024)
        bench.desk.held = asyncio.Event()
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
            for caller in callers:
                caller.connect(str(path))
                caller.send(request())
            await until(lambda: len(bench.desk.refused) == count - 100)
            await asyncio.sleep(0.05)

            assert bench.desk.asked == 100
            bench.desk.held.set()
            await bench.service.drain(PATIENCE)
    dropped = bench.desk.refused.count(problems.CONNECTION_DROPPED)
    assert dropped == count - 100 - REFUSAL_PLACES_PER_UID


async def test_what_was_accepted_before_the_system_refused_is_served(tmp_path: Path):
    """Without waiting for the end of the pause."""
    path = tmp_path / "s"
    async with running(path) as bench:
        bench.service._accept_pause = 60.0
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(str(path))
            second.connect(str(path))
            first.send(request())
            bench.listening.exhausted_after = 1
            async with connected(path):
                await until(lambda: bench.desk.asked)

    assert bench.desk.asked == 1
    assert bench.events.of(AcceptFailed) == [AcceptFailed(listener="app", reason="EMFILE")]


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_a_service_that_is_cancelled_while_callers_come_leaves_nothing_open(tmp_path: Path, turns: int):
    """No descriptor, no place, no task: whether their turn had come or not."""
    before, descriptors = asyncio.all_tasks(), len(list(Path("/proc/self/fd").iterdir()))
    service = Service(FakeDesk(), limits=Limits(), emit=Events())
    with Stubborn(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock, contextlib.ExitStack() as stack:
        sock.failures = []
        sock.bind(str(tmp_path / "s"))
        sock.listen(64)
        for _ in range(32):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "s"))
        acceptor = _Acceptor(listening=Listening(name="app", sock=sock, identify=identify))
        task = asyncio.create_task(service._take_pending(acceptor))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await service.drain(0.1)

    assert asyncio.all_tasks() == before
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert not service._ledger._admitted.taken


@pytest.mark.parametrize("turns", range(5))
async def test_connections_that_are_accepted_as_they_come_leave_nothing_open_when_all_is_cancelled(
    tmp_path: Path, turns: int
):
    """Held ones are over with the drain; those that nobody began are closed with the task that was to."""
    before, descriptors = asyncio.all_tasks(), len(list(Path("/proc/self/fd").iterdir()))
    service = Service(FakeDesk(), limits=Limits(max_connections_per_uid=3), emit=Events())
    with Stubborn(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock, contextlib.ExitStack() as stack:
        sock.failures = []
        sock.bind(str(tmp_path / "s"))
        sock.listen(64)
        task = asyncio.create_task(service.run([Listening(name="app", sock=sock, identify=identify, fast=True)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(8):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "s"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await service.drain(0.1)

    assert asyncio.all_tasks() == before
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert not service._ledger._admitted.taken
    assert not service._ledger._refused.taken


def unknown(_connection: socket.socket) -> Peer:
    return Peer(listener="app")


async def test_callers_without_a_uid_do_not_keep_each_other_out_by_idling(tmp_path: Path):
    """Who has asked for nothing lately, or only begun to, leaves; the longest first; who is being answered stays."""
    path = tmp_path / "s"
    async with (
        running(path, limits=Limits(max_connections=3), who=unknown) as bench,
        connected(path) as busy,
        connected(path) as idle,
        connected(path) as slow,
    ):
        bench.desk.held = asyncio.Event()
        busy.send(request())
        slow.send(b"GET /")
        await asyncio.sleep(IDLE_ENOUGH + 0.1)
        async with connected(path) as first:
            first.send(request())
            await until(lambda: bench.desk.asked == 2)
            left = [one.reader.at_eof() for one in (idle, slow)]
            async with connected(path) as second:
                second.send(request())
                await until(lambda: bench.desk.asked == 3)
                bench.desk.held.set()

                assert [parse(await one.rest()).status for one in (busy, first, second)] == [200] * 3
        assert left == [True, False]
        assert await slow.rest() == b""
    assert bench.desk.refused == []


async def test_callers_with_a_uid_leave_for_nobody(tmp_path: Path):
    """Each has places of its own, and the cap is told to whoever is over it."""
    path = tmp_path / "s"
    async with running(path, limits=Limits(max_connections=1)), connected(path):
        await asyncio.sleep(IDLE_ENOUGH + 0.1)

        assert parse(await exchange(path)).status == 429


async def test_a_caller_without_a_uid_that_has_just_come_is_not_turned_out(tmp_path: Path):
    """A crowd would only turn out itself."""
    path = tmp_path / "s"
    async with running(path, limits=Limits(max_connections=1), who=unknown), connected(path) as first:
        await asyncio.sleep(0.01)

        assert parse(await exchange(path)).status == 429
        first.send(request())
        assert parse(await first.rest()).status == 200


async def test_callers_without_a_uid_that_have_their_last_answer_leave_first(tmp_path: Path):
    """At once: what is still read of them is only read so that they see it."""
    path, owing = tmp_path / "s", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    async with (
        running(path, limits=Limits(max_connections=2), who=unknown) as bench,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(2):
            lingering = await stack.enter_async_context(connected(path))
            lingering.send(owing)
            assert (await lingering.one()).status == 200
        received = [parse(await exchange(path)).status for _ in range(2)]

    assert received == [200, 200]
    assert bench.desk.refused == []


async def test_a_reply_that_ends_while_draining_holds_nobody_up(tmp_path: Path):
    """Its head was written before and said that the connection is kept: it is closed as an idle one, and soon."""
    loop = asyncio.get_running_loop()
    async with running(tmp_path / "s") as run, connected(tmp_path / "s") as client, asyncio.TaskGroup() as group:
        run.desk.stream = stream = HeldStream()
        client.send(KEPT)
        await until(lambda: stream.begun or run.desk.bugs)
        assert run.desk.bugs == []
        began = loop.time()
        draining = group.create_task(run.service.drain(5.0))
        await asyncio.sleep(0.1)
        stream.over.set()
        await draining

        assert loop.time() - began < 2.5


KEPT = b"GET /v1/tokens/directory HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A request on a connection that goes on behind it."""


def hang_up_on(run: Running, client: Client, sent: bytes) -> Connection:
    """Close an idle connection in the very moment in which *sent* has arrived and was not read."""
    (connection,) = run.service._engine.connections
    client.writer.get_extra_info("socket")._sock.send(sent)  # past the loop, which would read it in its next turn
    assert isinstance(connection, Connection)
    connection._hang_up()
    return connection


async def test_a_caller_that_leaves_is_noticed_also_after_we_hung_up(tmp_path: Path):
    """What came in that moment is answered, but not to nobody: its place is given back."""
    async with running(tmp_path / "s") as run, connected(tmp_path / "s") as client:
        run.desk.held = asyncio.Event()
        await until(lambda: run.service._engine.connections)
        hang_up_on(run, client, request())
        await until(lambda: run.desk.asked)

        client.writer.transport.abort()
        await until(lambda: not run.service._engine.connections)

        assert run.desk.cancelled == 1


async def test_a_caller_that_waits_is_answered_after_we_hung_up(tmp_path: Path):
    """That it cannot send any more is no sign that it left."""
    async with running(tmp_path / "s") as run, connected(tmp_path / "s") as client:
        run.desk.held = asyncio.Event()
        await until(lambda: run.service._engine.connections)
        hang_up_on(run, client, request())
        await until(lambda: run.desk.asked)
        await asyncio.sleep(2 * LOOK_EVERY)
        run.desk.held.set()

        received = parse(await client.rest())

    assert (received.status, received.headers["connection"]) == (200, "close")


async def test_half_a_request_is_not_waited_for_after_we_hung_up(tmp_path: Path):
    """Its rest cannot come any more."""
    loop = asyncio.get_running_loop()
    async with running(tmp_path / "s") as run, connected(tmp_path / "s") as client:
        await until(lambda: run.service._engine.connections)
        began = loop.time()
        hang_up_on(run, client, request()[:10])

        received = parse(await client.rest())

    assert received.status == 408
    assert loop.time() - began < Limits().request_deadline
