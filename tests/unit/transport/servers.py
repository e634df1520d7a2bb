"""Servers on loopback that say exactly what a test wants, at the level of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from broker.tokens.ports import Clock
from broker.transport.proxy import Proxy
from broker.transport.resolver import Lookup, look_up
from broker.transport.session import Session
from tests.fakes import HandClock
from tests.unit.transport.certificates import client_context

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

Handler = Callable[["Connection"], Awaitable[None]]


@dataclass
class Heard:
    """One request as bytes."""

    head: bytes
    body: bytes

    def headers(self) -> dict[str, str]:
        lines = self.head.decode("ascii").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}


@dataclass
class Connection:
    """The server's end of a connection."""

    server: RawServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hear(self) -> Heard:
        """Read one whole request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        heard = Heard(head, b"")
        heard.body = await self.reader.readexactly(int(heard.headers().get("content-length", "0")))
        self.server.heard.append(heard)
        return heard

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.server.said += len(data)

    def reset(self) -> None:
        """End the connection with a RST instead of a FIN."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class RawServer:
    """A listening socket and what happened at it; *said* counts bytes that the client's side took."""

    handler: Handler
    port: int = 0
    connections: int = 0
    said: int = 0
    heard: list[Heard] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, path: str = "/token", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            # A client that goes away ends a handler; so does the end of the test.
            with contextlib.suppress(
                ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError
            ):
                await self.handler(Connection(self, reader, writer))
        finally:
            writer.transport.abort()
            self.tasks.discard(task)


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve *handler* at a free port of 127.0.0.1."""
    server = RawServer(handler)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in server.tasks:
            task.cancel()
        await listener.wait_closed()
        for _ in range(10):  # transports close in turns of the loop
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def session(
    tls: ssl.SSLContext | None = None,
    *,
    thumbprint: str | None = None,
    not_after: float | None = None,
    clock: Clock | None = None,
    deadline: float = 5.0,
    max_body: int = 64 * 1024,
    proxy: Proxy | None = None,
    lookup: Lookup = look_up,
) -> AsyncIterator[Session]:
    """A session that is closed in the end; with *thumbprint* it says that *tls* presents a certificate."""
    made = Session(
        ssl_context=tls or client_context(),
        thumbprint=thumbprint,
        not_after=not_after,
        clock=clock or HandClock(),
        deadline=deadline,
        max_body=max_body,
        proxy=proxy,
        lookup=lookup,
    )
    try:
        yield made
    finally:
        await made.close()


async def answers_ok(connection: Connection) -> None:
    """Answer every request of a connection."""
    while True:
        await connection.hear()
        await connection.say(OK)


def says(data: bytes) -> Handler:
    """Answer one request with *data*, then close."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(data)

    return handler


def refuses(tls: ssl.SSLContext) -> Handler:
    """
    A TLS server that says its alert before it closes, and reads what the client had sent meanwhile.

    Most servers do not: they close with unread bytes, and the reset overtakes the alert.
    """

    async def handler(connection: Connection) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = tls.wrap_bio(incoming, outgoing, server_side=True)
        refused = False
        while not refused:
            try:
                handshake.do_handshake()
            except ssl.SSLWantReadError:
                await connection.say(outgoing.read())
                incoming.write(await connection.reader.read(65_536))
            except ssl.SSLError:
                refused = True
        await connection.say(outgoing.read())
        connection.writer.write_eof()
        while await connection.reader.read(65_536):
            pass

    return handler
