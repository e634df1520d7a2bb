"""
Calls of one API with one certificate generation, or with none: bodies stream in both directions.

Implements ``tokens.calls.Line``. A call is transmitted once. How long it may take depends on its size, so there is
no deadline for the whole: one for the head of the reply, which each piece of the request puts off, and one for each
piece of the reply. What is not read holds the server back: no body is collected here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from broker.errors import RemoteError
from broker.oauth.reasons import Reason
from broker.tokens.calls import ApiReply, ApiRequest, Body
from broker.tokens.ports import Clock
from broker.transport.connections import FINAL_STATUSES, READ_SIZE, USER_AGENT, Connections, drop, was_closed
from broker.transport.failures import FOREIGN, Progress, refusal
from broker.transport.proxy import Proxy
from broker.transport.reading import piece_at_hand, read_piece
from broker.transport.resolver import Lookup, look_up
from broker.transport.sockets import turns_until

NO_BODY = frozenset({204, 304})
"""Replies without a body, whatever their length says (RFC 9110 section 6.4.1)."""

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Nothing that a field may hold (RFC 9110 section 5.5), though aiohttp reads it; no caller is to get it, nor can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """
    How long a call waits, in seconds.

    *reply*: for the head of the reply after the last piece of the request went out. *piece*: for the next piece of
    the reply.
    """

    reply: float = 30.0
    piece: float = 30.0


class _Sending:
    """
    The body of a request on its way out; *failure* is what its sender did, and no fault of the API.

    A reply may begin before all of it is out. Each piece puts off whatever deadline the reply has just then.
    """

    def __init__(self, body: Body) -> None:
        self.failure: BaseException | None = None
        self.answer: aiohttp.ClientResponse | None = None
        self._body = body
        self._deadline: asyncio.Timeout | None = None
        self._seconds = 0.0

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body.pieces():
                self._put_off()
                yield piece
                self._put_off()
        except Exception as error:
            self.failure = error
            self._cut()
            raise

    @contextlib.contextmanager
    def puts_off(self, deadline: asyncio.Timeout, seconds: float) -> Iterator[None]:
        """Let each piece put *deadline* off by so many *seconds* while the block runs."""
        self._deadline, self._seconds = deadline, seconds
        try:
            yield
        finally:
            self._deadline = None

    def _put_off(self) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def _cut(self) -> None:
        """End a reply that has begun: aiohttp would let it wait for a body that never comes whole."""
        connection = None if self.answer is None else self.answer.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()


class UpstreamLine:
    """
    Connections to one API: *thumbprint* and *not_after* describe the certificate in *ssl_context*, if there is one.

    *limit*: how many connections there may be at once; who wants one more waits for a free one.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext,
        thumbprint: str | None = None,
        not_after: float | None = None,
        clock: Clock,
        limit: int,
        patience: Patience | None = None,
        proxy: Proxy | None = None,
        lookup: Lookup = look_up,
    ) -> None:
        self._connections = Connections(
            ssl_context=ssl_context,
            thumbprint=thumbprint,
            not_after=not_after,
            clock=clock,
            proxy=proxy,
            lookup=lookup,
            limit=limit,
        )
        self._patience = patience or Patience()
        self._clock = clock
        self._open: set[_ReplyBody] = set()
        self._beginning: set[asyncio.Timeout] = set()
        self._quiet = asyncio.Event()

    @property
    def thumbprint(self) -> str | None:
        """``x5t#S256`` of the certificate that these connections present, or None."""
        return self._connections.thumbprint

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return len(self._open) + len(self._beginning)

    async def open(self, request: ApiRequest) -> ApiReply:
        """Transmit once: see ``tokens.calls.Line``. Raises RemoteError, and what the request's body raises."""
        progress = self._connections.begun(request.url.partition("?")[0])
        if self._connections.closed:
            raise was_closed(progress)
        sending: _Sending | None = None
        try:
            async with asyncio.timeout(self._patience.reply) as deadline:
                self._beginning.add(deadline)
                try:
                    if request.body is None:
                        return await self._begun(request, None, progress)
                    sending = _Sending(request.body)
                    with sending.puts_off(deadline, self._patience.reply):
                        return await self._begun(request, sending, progress)
                finally:
                    self._beginning.discard(deadline)
                    self._look()
        except (RemoteError, *FOREIGN) as error:
            if sending is not None and sending.failure is not None:
                raise sending.failure from None
            if isinstance(error, RemoteError):
                raise
            raise self._connections.translated(error, progress) from None

    async def drained(self, seconds: float) -> None:
        """Wait until no call is under way, for so many *seconds* at most; new ones may begin meanwhile."""
        self._quiet.clear()
        self._look()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return

    async def close(self) -> None:
        """Close every connection; calls under way fail. When it returns, no socket is open."""
        self._connections.closed = True
        for deadline in self._beginning:
            if not deadline.expired():
                deadline.reschedule(0.0)
        for body in tuple(self._open):
            await body.close()
        await turns_until(lambda: not self._beginning)
        await self._connections.end()

    def ended(self, body: _ReplyBody) -> None:
        """Note that a reply was read, or given up."""
        self._open.discard(body)
        self._look()

    def _look(self) -> None:
        if not self.calls:
            self._quiet.set()

    async def _begun(self, request: ApiRequest, sending: _Sending | None, progress: Progress) -> ApiReply:
        client = await self._connections.client(alone=self.calls <= 1)
        proxy = self._connections.proxy
        answer = await client.request(
            request.method,
            URL(request.url, encoded=True),  # as it came: two readings of a path are one too many
            headers=_headers(request),
            data=None if sending is None else sending.pieces(),
            allow_redirects=False,
            proxy=proxy.url if proxy is not None else None,
            proxy_headers=proxy.headers(USER_AGENT) if proxy is not None else None,
            trace_request_ctx=progress,
            middlewares=(self._connections.once(progress),),
        )
        progress.status = answer.status
        if answer.status not in FINAL_STATUSES or any(map(CONTROL.search, answer.headers.values())):
            drop(answer)
            raise refusal(Reason.PROTOCOL_VIOLATED, progress)
        if sending is not None:
            sending.answer = answer
        body = _ReplyBody(self, answer, progress, self._connections, seconds=self._patience.piece, sending=sending)
        self._open.add(body)
        empty = request.method == "HEAD" or answer.status in NO_BODY
        return ApiReply(
            status=answer.status,
            fields=tuple(answer.headers.items()),
            length=answer.content_length if empty else _length(answer),
            body=body,
        )


class _ReplyBody:
    """Implements ``tokens.calls.ReplyBody``."""

    def __init__(
        self,
        line: UpstreamLine,
        answer: aiohttp.ClientResponse,
        progress: Progress,
        connections: Connections,
        *,
        seconds: float,
        sending: _Sending | None,
    ) -> None:
        self._sending = sending
        self._line = line
        self._answer = answer
        self._progress = progress
        self._connections = connections
        self._seconds = seconds
        self._is_read = False

    async def read(self) -> bytes:
        """Give the next piece, none at the end. Raises RemoteError."""
        try:
            piece = piece_at_hand(self._answer, READ_SIZE)
            if piece is None:
                piece = await self._next()
        except FOREIGN as error:
            await self.close()
            raise self._connections.translated(error, self._progress) from None
        if not piece:
            self._is_read = True
            self._line.ended(self)
        return piece

    async def _next(self) -> bytes:
        """Wait for a piece; those of a request that still goes out put the deadline off."""
        async with asyncio.timeout(self._seconds) as deadline:
            if self._sending is None:
                return await read_piece(self._answer, READ_SIZE)
            with self._sending.puts_off(deadline, self._seconds):
                return await read_piece(self._answer, READ_SIZE)

    async def close(self) -> None:
        """Let go of the connection: kept if the body was read to its end, cut if not."""
        if not self._is_read:
            self._is_read = True
            drop(self._answer)
        self._line.ended(self)


def _headers(request: ApiRequest) -> CIMultiDict[str]:
    headers = CIMultiDict(request.fields)
    if request.body is not None and request.body.length is not None:
        headers["Content-Length"] = str(request.body.length)
    return headers


def _length(answer: aiohttp.ClientResponse) -> int | None:
    """Give what the reply says of its length; in chunks it says nothing (RFC 9112 section 6.3)."""
    return None if "Transfer-Encoding" in answer.headers else answer.content_length
