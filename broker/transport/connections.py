"""
The connections of one certificate generation, or of none: made by aiohttp under the client rules of rules.md R5.

Nothing from the environment, no cookies, no redirects, a bound on how long dialing takes. A request is transmitted
once: aiohttp's own retry of idempotent requests on a stale connection is kept from happening. What is sent, and
how much of an answer is read, is decided by whoever has the connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

import aiohttp

from broker import __version__
from broker.errors import RemoteError
from broker.oauth.endpoint_urls import NotAnEndpointUrlError, is_never_dialed, parse_url
from broker.oauth.reasons import Reason
from broker.tokens.ports import Clock
from broker.transport.failures import (
    FOREIGN,
    PROXY_ADDRESS_HINT,
    Progress,
    UnaskedAnswerError,
    refusal,
    translate,
    watch,
)
from broker.transport.proxy import Proxy
from broker.transport.reading import Answer, Connector
from broker.transport.resolver import Lookup, Resolver, look_up
from broker.transport.sockets import Sockets, is_left

CONNECT_BUDGET = 8.0
"""Seconds until a connection is there, waiting for a free one and name lookup included."""

DIAL_BUDGET = 4.0
"""Seconds for TCP and TLS with one group of addresses, so that a dead one leaves time for the next."""

KEEPALIVE = 3.0
"""
Seconds that an idle connection is kept: below the idle time-outs of usual servers (Node 5), so that a
POST never goes out on a connection that the server is just closing, which would leave its fate unknown.
"""

READ_SIZE = 128 * 1024
"""Bytes read at a time; also bounds what aiohttp buffers before it stops reading from the socket."""

USER_AGENT = f"token-broker/{__version__}"

FINAL_STATUSES = range(200, 600)
"""RFC 9110 section 15; 101 among others would be an answer to something that we never ask."""


class _OrderlyRequest(aiohttp.ClientRequest):
    """
    Looks at the connection once more before the first byte is written.

    One that was lost meanwhile would make the fate of the request unknown, and something that waits on a
    kept one would be taken for the answer. A fresh one that was ended is read to its end: an alert may be there.
    """

    progress: Progress | None = None

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Write the request. Raises what ended the connection, or UnaskedAnswerError."""
        protocol = conn.protocol
        if protocol is not None and protocol.should_close:
            ended = protocol.exception()
            raise ended if isinstance(ended, FOREIGN) else UnaskedAnswerError
        kept = self.progress is not None and self.progress.reused
        if kept and conn.transport is not None and is_left(conn.transport.get_extra_info("socket")):
            raise aiohttp.ServerDisconnectedError
        if protocol is not None:
            protocol.resume_reading()  # whoever had it before may not have taken all of its answer yet (rules.md R6)
        return await super().send(conn)


class Connections:
    """
    Connections that present the certificate in *ssl_context*, if there is one: *thumbprint*, until *not_after*.

    With a *proxy* every connection goes through it, and no plain request at all; *lookup* asks for addresses, *limit*
    is how many there may be at once. Everything of aiohttp is made at the first ``client``, in its loop.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext,
        thumbprint: str | None,
        not_after: float | None,
        clock: Clock,
        proxy: Proxy | None,
        lookup: Lookup = look_up,
        limit: int,
    ) -> None:
        self.thumbprint = thumbprint
        self.not_after = not_after
        self.proxy = proxy
        self.closed = False
        self._ssl_context = ssl_context
        self._clock = clock
        self._limit = limit
        self._resolver = Resolver(lookup=lookup)
        self._sockets = Sockets()
        self._client: aiohttp.ClientSession | None = None
        self._opened_at = 0.0
        self._retired: list[aiohttp.ClientSession] = []

    def begun(self, url: str) -> Progress:
        """
        Look at the URL before anything is done; an address in it is checked here, since no resolver will.

        Raises RemoteError ``endpoint_refused`` or ``address_refused``, with nothing sent.
        """
        try:
            target = parse_url(url)
        except NotAnEndpointUrlError:
            raise refusal(Reason.ENDPOINT_REFUSED, Progress(secured=False, presents_certificate=False)) from None
        return self.begun_at(target.scheme, target.host)

    def begun_at(self, scheme: str, host: str) -> Progress:
        """As ``begun``, for a URL that was taken apart before."""
        secured = scheme == "https"
        progress = Progress(
            secured=secured,
            presents_certificate=secured and self.thumbprint is not None,
            proxied=self.proxy is not None,
        )
        if is_never_dialed(host):
            raise refusal(Reason.ADDRESS_REFUSED, progress)
        if self.proxy is not None:
            self._check_way(self.proxy, progress)
        return progress

    def _check_way(self, proxy: Proxy, progress: Progress) -> None:
        """Refuse to show a proxy a plain request, and a proxy whose address is one that is never dialed."""
        if not progress.secured:
            raise refusal(Reason.ENDPOINT_REFUSED, progress, hint="what goes through a proxy must be https")
        if is_never_dialed(parse_url(proxy.url).host):
            raise refusal(Reason.ADDRESS_REFUSED, progress, hint=PROXY_ADDRESS_HINT)

    def once(self, progress: Progress) -> aiohttp.ClientMiddlewareType:
        """
        Keep aiohttp from sending a request again when a connection is lost: it never sees that error.

        A kept connection that turns out to be dead before the first byte is replaced, whatever the request:
        nothing of it was sent (RFC 9110 section 9.2.2 is about those of which something may have been). Each
        turn uses up a kept connection.
        """

        async def middleware(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            cast("_OrderlyRequest", request).progress = progress
            while True:
                try:
                    return await handler(request)
                except FOREIGN as error:
                    if self.closed or progress.written or not progress.reused:
                        raise self.translated(error, progress) from None
                    progress.connected = progress.reused = False

        return middleware

    def translated(self, error: Exception, progress: Progress) -> RemoteError:
        """Say in our words what *error*, one of ``FOREIGN``, means."""
        if self.closed:
            return was_closed(progress)
        expired = self.not_after is not None and self.not_after <= self._clock.wall()
        return translate(error, progress, certificate_expired=expired)

    async def client(self, *, alone: bool) -> aiohttp.ClientSession:
        """
        Give the client, and never one with connections from before the machine slept.

        The loop's clock stood still meanwhile, so that aiohttp takes them for fresh; their peers do not. *alone*:
        no other call is under way, so that what was retired can be ended.
        """
        asleep = self._clock.boot() - asyncio.get_running_loop().time()  # since some day, that is: compared only
        if self._client is not None and asleep - self._opened_at > KEEPALIVE:
            self._retired.append(self._client)
            self._client = None
        if alone and self._retired:
            await self._end_retired()
        if self._client is None:
            self._opened_at = asleep
            self._client = self._opened()
        return self._client

    def _opened(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=Connector(
                ssl=self._ssl_context,
                resolver=self._resolver,
                keepalive_timeout=KEEPALIVE,
                limit=self._limit,
                socket_factory=self._sockets.make,
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_BUDGET, sock_connect=DIAL_BUDGET),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            requote_redirect_url=False,
            raise_for_status=False,
            request_class=_OrderlyRequest,
            response_class=Answer,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=READ_SIZE,
            trace_configs=[watch()],
        )

    async def end(self) -> None:
        """Close every connection, when no call is under way any more. When it returns, no socket is open."""
        if self._client is not None:
            await _end(self._client)
        await self._end_retired()
        await self._resolver.close()
        await self._sockets.end()

    async def _end_retired(self) -> None:
        """End clients without a good-bye, which nobody would hear."""
        while self._retired:
            client = self._retired.pop()
            await _end(client)


async def _end(client: aiohttp.ClientSession) -> None:
    """
    Close a client; whatever it leaves open is ended with the sockets.

    A TLS transport of asyncio that was closed twice, as aiohttp does when nonsense follows an answer, has
    lost what aiohttp asks it about here: AttributeError.
    """
    with contextlib.suppress(AttributeError):
        if client.connector is not None:
            await client.connector.close(abort_ssl=True)
        await client.close()


def drop(answer: aiohttp.ClientResponse) -> None:
    """Close the connection of an answer that is not read to its end, without a good-bye to the peer."""
    connection = answer.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    answer.close()


def was_closed(progress: Progress) -> RemoteError:
    """Say that we closed the connections ourselves."""
    return RemoteError(
        Reason.CONNECTION_LOST, "the session was closed", outcome=progress.outcome, status=progress.status
    )
