"""What tests of the API share: a token source that does as it is told, a raw client, a served socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from aiohttp.http import HttpProcessingError, HttpRequestParser
from aiohttp.streams import EMPTY_PAYLOAD

from broker.api.guard import Incoming
from broker.api.limits import Limits
from broker.api.listeners import UnixListener
from broker.api.memo import may_be_whole
from broker.api.server import ApiServer
from broker.oauth.secret import AccessToken
from broker.policy.peer import Peer
from broker.policy.rules import Policy, Workload
from broker.tokens.ports import Watch
from broker.tokens.serving import Serving, Standing, TokenState, TokenStatus, TokenUnavailableError
from broker.tokens.spec import IssuedToken
from tests.fakes import Dice, Events, LoopClock
from tests.unit.api.conformance import check_exchange

EVERYBODY = Workload(name="app", listeners=frozenset({"app"}), tokens=frozenset({"directory"}))
"""Whoever can open the socket, root of the machine that runs the tests included."""

PATIENCE = 10.0
"""Seconds after which a test that waits for bytes has failed."""


async def until(condition: Callable[[], object]) -> None:
    """Wait for what is about to happen in the same process."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


HOST = b"Host: localhost\r\n"


class Way(Enum):
    """How requests for tokens are answered: see ``conftest``."""

    PLAIN = "plain"
    FAST = "fast"
    PRIMED = "primed"


CHOSEN = [Way.PLAIN]
"""The way that servers of tests go."""


def way() -> Way:
    """Give the way that servers of this test go."""
    return CHOSEN[0]


def prime(server: ApiServer, raw: bytes) -> None:
    """Put *raw* into the memo, if it is a request that aiohttp can parse and that may be there."""
    if server._service is None or not may_be_whole(raw):
        return
    lobby = server._service._lobby
    parser = HttpRequestParser(None, asyncio.get_running_loop(), 2**16)
    try:
        ((message, payload),), _, _ = parser.feed_data(raw)
    except (HttpProcessingError, ValueError):
        return
    if payload is not EMPTY_PAYLOAD:
        return
    incoming = Incoming(
        method=message.method,
        target=message.path,
        version=(message.version.major, message.version.minor),
        headers=tuple(message.headers.items()),
        head_size=len(raw),
        has_body=False,
        content_length=None,
    )
    callers = [Peer(listener=one.listener.name, uid=os.getuid(), gid=os.getgid()) for one in server._open]
    for peer in callers:
        known = replace(peer, groups=frozenset(os.getgroups()))
        server._desk.learn(lobby.recall(known), raw, incoming, last=message.should_close)


def issued(**changes: Any) -> IssuedToken:
    members: dict[str, Any] = {
        "access_token": AccessToken("the-access-token"),
        "token_type": "Bearer",
        "scope": ("accounts", "payments"),
        "issuer": "https://as.example",
        "obtained_at": 0.0,
        "expires_at": 300.0,
        "expires_at_wall": 1_790_000_300.75,
        "generation": 7,
        "etag": "an-etag",
        "fingerprint": "a-fingerprint",
        "binding": "certificate",
        "certificate_thumbprint": "a-thumbprint",
    }
    return IssuedToken(**{**members, **changes})


def serving(*, stale: bool = False, **changes: Any) -> Serving:
    return Serving(token=issued(**changes), expires_in=299, expires_at=1_790_000_300, stale=stale)


def unavailable(**changes: Any) -> TokenUnavailableError:
    members: dict[str, Any] = {
        "code": "temporarily_unavailable",
        "message": "there is no token yet",
        "retry_after": 3,
        "reason": "connect_failed",
    }
    members |= changes
    return TokenUnavailableError(members.pop("code"), members.pop("message"), **members)


@dataclass
class FakeTokens:
    """
    Answers ``get`` with what *answers* holds: a serving, or an exception to raise.

    While *held* is set, ``get`` waits for it, or for as long as the caller may; *asked* are its arguments,
    *forced* those of ``refresh``, which says that it *begins* an attempt, or does not. Who watches is woken by
    ``tell``; *watched* counts them.
    """

    answers: dict[str, Serving | Exception] = field(default_factory=lambda: {"directory": serving()})
    states: dict[str, TokenStatus] = field(default_factory=dict)
    held: asyncio.Event | None = None
    asked: list[tuple[str, float | None, float]] = field(default_factory=list)
    cancelled: int = 0
    begins: bool = True
    forced: list[tuple[str, str | None, float]] = field(default_factory=list)
    standings: dict[str, Standing] = field(default_factory=dict)
    futures: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    watched: int = 0
    looked_at: list[str] = field(default_factory=list)

    async def refresh(self, name: str, *, rejected: str | None, wait: float, begun: Callable[[], None]) -> Serving:
        self.forced.append((name, rejected, wait))
        if self.begins:
            begun()
        answer = await self.get(name, min_valid=None, wait=wait)
        self.asked.pop()
        return answer

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[Watch]:
        if name not in self.futures:
            self.futures[name] = asyncio.get_running_loop().create_future()
        self.watched += 1
        try:
            yield Watch(news=self.futures[name], standing=lambda: self.standing(name))
        finally:
            self.watched -= 1

    def standing(self, name: str) -> Standing:
        answer = self.answers.get(name)
        etag = answer.token.etag if isinstance(answer, Serving) else None
        return self.standings.get(name, Standing(etag=etag, failing=etag is None))

    def tell(self, name: str = "directory") -> None:
        """Wake who waits for news."""
        self.futures.pop(name).set_result(None)

    def at_once(self, name: str, *, min_valid: float | None) -> Serving | None:
        answer = self.answers.get(name)
        return answer if isinstance(answer, Serving) and answer.enough and self.held is None else None

    async def get(self, name: str, *, min_valid: float | None, wait: float) -> Serving:
        self.asked.append((name, min_valid, wait))
        if self.held is not None and wait:
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self.held.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def status(self, name: str) -> TokenStatus:
        self.looked_at.append(name)
        default = TokenStatus(name=name, state=TokenState.FRESH, required=False, expires_in=299)
        return self.states.get(name, default)

    def grant_of(self, name: str) -> str | None:
        return None

    def names(self) -> tuple[str, ...]:
        return tuple(self.answers)

    def required(self) -> tuple[str, ...]:
        return tuple(name for name in self.answers if name in self.states and self.states[name].required)


@dataclass(frozen=True)
class Received:
    """An answer as it came: *rest* are the bytes after it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    rest: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


def parse(raw: bytes) -> Received:
    """Read the first answer in *raw*; its body is as long as it says."""
    head, _, after = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("ascii").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    return Received(int(status_line.split(" ")[1]), headers, after[:length], after[length:])


def parse_all(raw: bytes) -> list[Received]:
    """Read all answers in *raw*."""
    answers = []
    while raw:
        answers.append(parse(raw))
        raw = answers[-1].rest
    return answers


def request(target: str = "/v1/tokens/directory", *headers: str, method: str = "GET") -> bytes:
    """Write a good request that closes its connection."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@dataclass
class Client:
    """One connection, in bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: ApiServer | None = None

    def send(self, raw: bytes) -> None:
        if self.server is not None and way() is Way.PRIMED:
            prime(self.server, raw)
        self.writer.write(raw)

    async def rest(self) -> bytes:
        """Read until the other side closes; a reset is an end, too."""
        received = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while chunk := await self.reader.read(65_536):
                    received += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received

    async def one(self) -> Received:
        """Read one answer and leave the connection open."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            body = await self.reader.readexactly(int(parse(head).headers["content-length"]))
        return parse(head + body)


@dataclass
class Served:
    """A running API server and what a test needs of it."""

    server: ApiServer
    path: Path
    tokens: FakeTokens
    events: Events

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            yield Client(reader, writer, self.server)
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def exchange(self, raw: bytes) -> Received:
        """Send *raw* on a connection of its own and read the first answer."""
        async with self.connect() as client:
            client.send(raw)
            answer = parse(await client.rest())
        check_exchange(raw, answer.status, answer.headers, answer.body)
        return answer

    async def get(self, target: str = "/v1/tokens/directory", *headers: str) -> Received:
        return await self.exchange(request(target, *headers))


QUICK = Limits(request_deadline=0.3, idle_timeout=0.4, write_deadline=0.3)
"""Deadlines that a test can wait for."""


@contextlib.asynccontextmanager
async def served(
    directory: Path,
    tokens: FakeTokens | None = None,
    *,
    events: Any = None,
    workloads: tuple[Workload, ...] = (EVERYBODY,),
    own_uid: int = 2**31,
    names: tuple[str, ...] = ("app",),
    drain: float = 2.0,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve *tokens* on sockets in *directory* (by default one, app.sock)."""
    tokens = tokens or FakeTokens()
    events = events or Events()
    server = ApiServer(
        [UnixListener(name=name, path=directory / f"{name}.sock") for name in names],
        policy=Policy(workloads=workloads, own_uid=own_uid),
        tokens=tokens,
        emit=events,
        clock=LoopClock(),
        randomness=Dice(),
        fast_path=way() is not Way.PLAIN,
        **options,
    )
    server.open()
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run())
        try:
            yield Served(server, directory / f"{names[0]}.sock", tokens, events)
        finally:
            await server.drain(drain)
