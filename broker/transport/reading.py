"""
Reading answers: two things that aiohttp leaves to the deadline end a call at once here.

A server may say any number of interim answers before the real one, and aiohttp takes each in turn, which
keeps the loop busy. And where the rest of a body is not HTTP, aiohttp closes the connection without a word to
who waits for that body.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from broker.transport.failures import NotHttpError

if TYPE_CHECKING:
    from aiohttp.connector import Connection

MAX_INTERIM_ANSWERS = 16
"""Of one request: servers say one 100 or 103, and 102 (WebDAV) every few seconds; the deadline is 10 s."""

LOOK_EVERY = 0.1
"""Seconds after which somebody who waits for a piece of a body sees whether the connection is still there."""

SWITCHING_PROTOCOLS = 101


class Answer(aiohttp.ClientResponse):
    """An answer that has few interim answers before it; the ``response_class`` of an aiohttp session."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read the head. Raises NotHttpError after too many interim answers."""
        return await super().start(cast("Connection", _CountingConnection(connection)))


class Connector(aiohttp.TCPConnector):
    """Connects to servers, by way of a proxy if need be; the proxy may say as few interim answers as a server."""

    def _update_proxy_auth_header_and_build_proxy_req(self, req: aiohttp.ClientRequest) -> aiohttp.ClientRequest:
        # aiohttp has no other way to say what reads the answer to CONNECT; a test floods it.
        connect = super()._update_proxy_auth_header_and_build_proxy_req(req)
        connect.response_class = Answer
        return connect


class _CountingConnection:
    """A connection whose protocol counts interim answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @property
    def protocol(self) -> _CountingProtocol | None:
        protocol = self._connection.protocol
        return None if protocol is None else _CountingProtocol(protocol)


class _CountingProtocol:
    """A protocol that gives so many interim answers and no more."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._seen = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    async def read(self) -> Any:
        """Give the next head with its body."""
        message, payload = await self._protocol.read()
        if message.code in range(100, 200) and message.code != SWITCHING_PROTOCOLS:
            self._seen += 1
            if self._seen > MAX_INTERIM_ANSWERS:
                raise NotHttpError
        return message, payload


def piece_at_hand(answer: aiohttp.ClientResponse, size: int) -> bytes | None:
    """
    Give at most *size* bytes of the body that are here, none at its end, None where it has to be waited for.

    Most pieces are, and then nothing has to be timed. Raises what aiohttp raises.
    """
    piece = answer.content.read_nowait(size)
    return piece if piece or answer.content.at_eof() else None


async def read_piece(answer: aiohttp.ClientResponse, size: int) -> bytes:
    """Give at most *size* bytes of the body, none at its end. Raises NotHttpError, and what aiohttp raises."""
    while True:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                return await answer.content.read(size)
        except TimeoutError:
            if _is_dead(answer):
                raise NotHttpError from None
        except RuntimeError:
            # aiohttp's word for a connection that ended between two reads without a mark at the end of the body.
            raise aiohttp.ClientPayloadError from None


def _is_dead(answer: aiohttp.ClientResponse) -> bool:
    """Say whether nothing will ever come: no connection, and neither an end nor an error to be read."""
    if answer.content.is_eof() or answer.content.exception() is not None:
        return False
    connection = answer.connection
    protocol = connection.protocol if connection is not None else None
    return protocol is None or not protocol.is_connected()
