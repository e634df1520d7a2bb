"""Tests of ``broker/sandbox/listeners.py``, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from broker.sandbox.listeners import (
    HOST,
    Certificate,
    ClientCertificates,
    Handshake,
    Listener,
    bind,
    origin,
    server_context,
)
from tests.unit.sandbox.talking import client_context

pytestmark = pytest.mark.real_time

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

WELL = Handshake()
"""How a handshake goes when nothing is wrong."""


@asynccontextmanager
async def listening(
    prepared: Path, clients: ClientCertificates = ClientCertificates.NOT_ASKED, handshake: Handshake = WELL
) -> AsyncIterator[tuple[Listener, int]]:
    """Open a listener with nothing behind it."""
    server = prepared / "server"
    certificates = {
        name: Certificate(cert_file=server / f"{name}.pem", key_file=server / f"{name}.key")
        for name in ("good", "expired")
    }
    context = server_context(certificates, prepared / "ca.pem", clients=clients, next_handshake=lambda: handshake)
    bound = bind()
    listener = Listener(bound, web.Application(), context)
    port = bound.getsockname()[1]
    await listener.open()
    try:
        yield listener, port
    finally:
        await listener.end()


async def shake_hands(port: int, context: ssl.SSLContext) -> bytes:
    """Connect and make a request; give the first line of the answer."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname="localhost")
    try:
        writer.write(REQUEST)
        return await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def test_a_listener_is_on_loopback_only(prepared: Path):
    """Not on every address of the machine."""
    async with listening(prepared) as (_, port):
        addresses = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}

        assert f"0100007F:{port:04X}" in addresses
        assert f"00000000:{port:04X}" not in addresses


async def test_it_can_be_closed_and_opened_again_at_the_same_port(prepared: Path):
    """As a server that is restarted; closing and opening twice is the same as once."""
    async with listening(prepared) as (listener, port):
        context = client_context(prepared, None)

        for _ in range(2):
            await listener.close()
        with pytest.raises(ConnectionRefusedError):
            await shake_hands(port, context)
        for _ in range(2):
            await listener.open()

        assert await shake_hands(port, context) == b"HTTP/1.1 404 Not Found\r\n"


async def test_connections_are_cut_when_it_closes(prepared: Path):
    """Those that were idle, and those whose handshake had not ended for the server: nobody is answered."""
    async with listening(prepared) as (listener, port):
        context = client_context(prepared, None)
        idle, idle_writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname="localhost")
        idle_writer.write(REQUEST)
        await idle.readuntil(b"\r\n\r\n")
        late, late_writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname="localhost")
        late_writer.write(REQUEST)

        await listener.close()

        for reader, writer in ((idle, idle_writer), (late, late_writer)):
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_a_listener_that_never_opened_leaves_no_socket_behind():
    """Its port is free again."""
    bound = bind()
    port = bound.getsockname()[1]

    await Listener(bound, web.Application(), None).end()

    bind(port).close()


def test_a_port_that_is_taken_is_an_error():
    """Not another port."""
    with bind() as taken, pytest.raises(OSError, match="in use"):
        bind(taken.getsockname()[1])


def test_an_origin_names_host_and_port():
    """With the scheme that is spoken there."""
    with socket.create_server((HOST, 0)) as bound:
        assert origin(bound, "https", "localhost") == f"https://localhost:{bound.getsockname()[1]}"


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_certificate_is_chosen_for_each_connection(prepared: Path, tls: ssl.TLSVersion):
    """With either version of TLS, and for clients that send no server name."""
    async with listening(prepared, handshake=Handshake(certificate="expired")) as (_, port):
        context = client_context(prepared, None)
        context.minimum_version = context.maximum_version = tls
        context.check_hostname = False

        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await asyncio.open_connection(HOST, port, ssl=context, server_hostname="")


async def test_a_certificate_may_be_required_by_tls(prepared: Path):
    """Strict listeners end the connection with an alert; the answer never comes."""
    async with listening(prepared, ClientCertificates.REQUIRED) as (_, port):
        with pytest.raises(ConnectionResetError):
            await shake_hands(port, client_context(prepared, None))

        assert b"404" in await shake_hands(port, client_context(prepared, "client"))


async def test_a_certificate_that_is_asked_for_may_be_left_out(prepared: Path):
    """None is fine with TLS; whoever answers decides what that means."""
    async with listening(prepared, ClientCertificates.ASKED) as (_, port):
        assert b"404" in await shake_hands(port, client_context(prepared, None))


async def test_a_certificate_of_another_authority_is_refused(prepared: Path):
    """The server's own certificate is no client certificate either."""
    async with listening(prepared, ClientCertificates.ASKED) as (_, port):
        for name in ("self_signed", "good"):
            context = client_context(prepared, None)
            context.load_cert_chain(prepared / "server" / f"{name}.pem", prepared / "server" / f"{name}.key")

            with pytest.raises(ConnectionResetError):
                await shake_hands(port, context)


async def test_a_handshake_may_believe_nobody(prepared: Path):
    """A good client certificate is refused by an alert, as when a server has lost its trust anchors."""
    async with listening(prepared, ClientCertificates.ASKED, Handshake(believe_clients=False)) as (_, port):
        with pytest.raises(ConnectionResetError):
            await shake_hands(port, client_context(prepared, "client"))
