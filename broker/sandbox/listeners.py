"""
Loopback listeners with TLS that can be told to behave badly in the handshake.

Nothing here listens on anything but 127.0.0.1. The server's certificate is chosen for each connection
(in OpenSSL's callback for the server name, which is called whether the client sends a name or not), so a
fault strikes the next connection and the listener goes on.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from aiohttp import web

HOST = "127.0.0.1"

NAME = "localhost"
"""What the listeners with TLS are called in addresses."""

BACKLOG = 512
"""Connections that may wait to be accepted: a test may open some hundred at a time."""

DRAIN = 0.2
"""Seconds that open requests get when a listener ends; a dripping answer would never end by itself."""


LINGER_ZERO = struct.pack("ii", 1, 0)
"""
A socket with this option ends with RST (socket(7), SO_LINGER). Connections inherit it from their listener and
lose it with their first request, so that a refused client certificate shows as a reset: asyncio closes such
a connection without sending the alert, and whether the client would see an end or a reset would be chance.
"""

LINGER_OFF = struct.pack("ii", 0, 0)


class ClientCertificates(Enum):
    """What a listener wants to see of its clients."""

    NOT_ASKED = ssl.CERT_NONE
    ASKED = ssl.CERT_OPTIONAL
    """None at all is fine with TLS; one that is not of the sandbox's authority is refused there."""
    REQUIRED = ssl.CERT_REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Where a server certificate and its key are."""

    cert_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """How one handshake goes: which certificate is shown, and whether client certificates are believed."""

    certificate: str = "good"
    believe_clients: bool = True


def server_context(
    certificates: dict[str, Certificate],
    ca_file: Path,
    *,
    clients: ClientCertificates,
    next_handshake: Callable[[], Handshake],
    generation: Callable[[], int] = lambda: 0,
) -> ssl.SSLContext:
    """
    Make the context of a listener.

    *certificates* must have ``good``, and whatever *next_handshake* names; it is asked once a connection. The files
    are read again when *generation* has changed.
    """
    contexts: dict[Handshake, ssl.SSLContext] = {}
    read = generation()

    def context_of(handshake: Handshake) -> ssl.SSLContext:
        nonlocal read
        if read != generation():
            contexts.clear()
            read = generation()
        if handshake not in contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.num_tickets = 0  # no resumption: each connection shows its certificates anew,
            context.options |= ssl.OP_NO_TICKET  # with either version of TLS
            chosen = certificates[handshake.certificate]
            context.load_cert_chain(chosen.cert_file, chosen.key_file)
            context.verify_mode = clients.value
            if handshake.believe_clients:
                context.load_verify_locations(ca_file)
            contexts[handshake] = context
        return contexts[handshake]

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = context_of(next_handshake())

    context = context_of(Handshake())
    context.sni_callback = choose
    return context


def bind(port: int = 0) -> socket.socket:
    """Bind a socket of 127.0.0.1 and listen; 0 lets the kernel choose. Raises OSError."""
    bound = socket.create_server((HOST, port), backlog=BACKLOG)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    return bound


def origin(bound: socket.socket, scheme: str, host: str) -> str:
    """Give the origin that *bound* is reached at under the name *host*."""
    return f"{scheme}://{host}:{bound.getsockname()[1]}"


class Listener:
    """A port of 127.0.0.1 with an application behind it, which can be closed and opened again."""

    def __init__(self, bound: socket.socket, application: web.Application, context: ssl.SSLContext | None) -> None:
        self._socket: socket.socket | None = bound
        self._port: int = bound.getsockname()[1]
        application.middlewares.append(self._once_shaken_hands)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=DRAIN)
        self._context = context
        self._site: web.SockSite | None = None

    async def open(self) -> None:
        """Start to accept connections; after ``close`` on the same port. Raises OSError if that is taken by now."""
        if self._site is not None:
            return
        if self._runner.server is None:
            await self._runner.setup()
        self._socket = self._socket or bind(self._port)
        self._site = web.SockSite(self._runner, self._socket, ssl_context=self._context, backlog=BACKLOG)
        await self._site.start()

    async def close(self) -> None:
        """Stop to accept connections and cut those that are open, as a server does that is killed."""
        if self._site is not None:
            await self._site.stop()
        elif self._socket is not None:
            self._socket.close()
        self._site = self._socket = None
        self.cut()

    def cut(self) -> None:
        """Close the connections that are open, so that the next request needs a new handshake."""
        server = self._runner.server
        for connection in tuple(server.connections if server is not None else ()):
            connection.force_close()

    @web.middleware
    async def _once_shaken_hands(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let the connection end in good order from now on; abort it if it missed that the others were cut."""
        if request.transport is None:
            return web.Response()
        if self._site is None:
            request.transport.abort()
            return web.Response()
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        return await handler(request)

    async def end(self) -> None:
        """Close for good."""
        await self.close()
        await self._runner.cleanup()
