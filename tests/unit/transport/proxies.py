"""CONNECT proxies on loopback: one that works, with notes of what it saw, and handlers for those that do not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.unit.transport.servers import Connection, Handler, RawServer, serving

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Tunnels:
    """What a proxy saw: the heads of its requests, and the first bytes that went through each tunnel."""

    server: RawServer | None = None
    heads: list[str] = field(default_factory=list)
    firsts: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.port}"

    async def handle(self, connection: Connection) -> None:
        """Make a tunnel to where CONNECT says; any name is this machine, as a proxy's own DNS may have it."""
        heard = await connection.hear()
        self.heads.append(heard.head.decode("ascii"))
        _, _, port = heard.head.split()[1].decode("ascii").rpartition(":")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        try:
            await connection.say(ESTABLISHED)
            first = await connection.reader.read(65_536)
            self.firsts.append(first)
            writer.write(first)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(connection.reader, writer))
                group.create_task(_pump(reader, connection.writer))
        finally:
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


@contextlib.asynccontextmanager
async def proxying() -> AsyncIterator[Tunnels]:
    """Run a proxy that lets everything through."""
    tunnels = Tunnels()
    async with serving(tunnels.handle) as server:
        tunnels.server = server
        yield tunnels


def answers(status: bytes, head: bytes = b"") -> Handler:
    """Answer CONNECT with a *status* line's rest, as ``403 Forbidden``."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(b"HTTP/1.1 " + status + b"\r\n" + head + b"Content-Length: 0\r\n\r\n")

    return handler
