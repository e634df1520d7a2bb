"""
Connections to authorization servers with one certificate generation, or with none.

One ``Session`` holds one SSL context for its whole life: a changed context would go on being used by
pooled connections with the old certificate, so a new generation is a new session. The client rules of
rules.md R5 are all here: nothing from the environment, no cookies, no redirects, identity encoding, a cap
on bytes and a deadline on everything. A request is transmitted once: aiohttp's own retry of idempotent
requests on a stale connection is kept from happening.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from broker import __version__
from broker.errors import RemoteError
from broker.oauth.client_auth import credential_form, credential_headers
from broker.oauth.endpoint_urls import NotAnEndpointUrlError, is_never_dialed, parse_url
from broker.oauth.messages import Request, Response
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
from broker.transport.reading import Answer, Connector, read_piece
from broker.transport.resolver import Lookup, Resolver, look_up
from broker.transport.sockets import Sockets, is_left, turns_until

DEADLINE = 10.0
"""Seconds for a whole exchange, name lookup to last byte: the longest that a caller waits for a token."""

MAX_BODY = 128 * 1024
"""
Bytes of an answer: token responses with large ID tokens stay below 100 KiB, so this is never met in good faith.

To judge the structure of so much hostile JSON takes the loop some 15 ms; a mebibyte took 120.
"""

CONNECT_BUDGET = 8.0
"""Seconds until a connection is there, waiting for a free one and name lookup included."""

DIAL_BUDGET = 4.0
"""Seconds for TCP and TLS with one group of addresses, so that a dead one leaves time for the next."""

KEEPALIVE = 3.0
"""
Seconds that an idle connection is kept: below the idle time-outs of usual servers (Node 5), so that a
POST never goes out on a connection that the server is just closing, which would leave its fate unknown.
"""

MAX_CONNECTIONS = 16
"""At once to all hosts of a session: above the per-issuer concurrency, below what an fd limit would notice."""

READ_SIZE = 64 * 1024
"""Bytes read at a time; also bounds what aiohttp buffers before it stops reading from the socket."""

USER_AGENT = f"token-broker/{__version__}"

LISTS = frozenset({"www-authenticate", "dpop-nonce"})
"""
Fields that are told whole. Of challenges each counts (RFC 9110 section 11.6.1); nonces that are two are none, and
with the space between them they do not look like one.
"""

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
        return await super().send(conn)


class Session:
    """
    Implements ``tokens.ports.Session`` with aiohttp.

    *thumbprint* and *not_after* describe the certificate in *ssl_context*, if it presents one. *deadline*
    is in seconds, *max_body* in bytes; *lookup* asks for addresses. With a *proxy* every connection goes
    through it, and no plain request at all. Everything of aiohttp is made at the first ``send``, in its loop.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext,
        thumbprint: str | None = None,
        not_after: float | None = None,
        clock: Clock,
        deadline: float = DEADLINE,
        max_body: int = MAX_BODY,
        proxy: Proxy | None = None,
        lookup: Lookup = look_up,
    ) -> None:
        self._ssl_context = ssl_context
        self._thumbprint = thumbprint
        self._not_after = not_after
        self._clock = clock
        self._deadline = deadline
        self._max_body = max_body
        self._proxy = proxy
        self._resolver = Resolver(lookup=lookup)
        self._sockets = Sockets()
        self._client: aiohttp.ClientSession | None = None
        self._opened_at = 0.0
        self._retired: list[aiohttp.ClientSession] = []
        self._under_way: set[asyncio.Timeout] = set()
        self._closed = False

    @property
    def thumbprint(self) -> str | None:
        """``x5t#S256`` of the certificate that these connections present, or None."""
        return self._thumbprint

    @property
    def not_after(self) -> float | None:
        """Unix time when that certificate ends, or None."""
        return self._not_after

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that every connection goes through, or None."""
        return self._proxy

    async def send(self, request: Request) -> Response:
        """
        Transmit once; never retried, never redirected.

        Raises RemoteError with the outcomes ``not_sent`` and ``unknown``; *status* is set once the head of
        an answer had arrived, also for one that is too large or encoded.
        """
        progress = self._begun(request)
        if self._closed:
            raise _was_closed(progress)
        try:
            async with asyncio.timeout(self._deadline) as deadline:
                self._under_way.add(deadline)
                try:
                    return await self._exchange(request, progress)
                finally:
                    self._under_way.discard(deadline)
        except FOREIGN as error:
            raise self._translated(error, progress) from None

    async def close(self) -> None:
        """Close every connection; calls under way fail. When it returns, no socket is open."""
        self._closed = True
        for deadline in self._under_way:
            if not deadline.expired():
                deadline.reschedule(0.0)
        await turns_until(lambda: not self._under_way)
        if self._client is not None:
            await _end(self._client)
        await self._end_retired()
        await self._resolver.close()
        await self._sockets.end()

    def _begun(self, request: Request) -> Progress:
        """Look at the URL before anything is done; an address in it is checked here, since no resolver will."""
        try:
            target = parse_url(request.url)
        except NotAnEndpointUrlError:
            raise refusal(Reason.ENDPOINT_REFUSED, Progress(secured=False, presents_certificate=False)) from None
        secured = target.scheme == "https"
        progress = Progress(
            secured=secured,
            presents_certificate=secured and self._thumbprint is not None,
            proxied=self._proxy is not None,
        )
        if is_never_dialed(target.host):
            raise refusal(Reason.ADDRESS_REFUSED, progress)
        if self._proxy is not None:
            self._check_way(self._proxy, progress)
        return progress

    def _check_way(self, proxy: Proxy, progress: Progress) -> None:
        """Refuse to show a proxy a plain request, and a proxy whose address is one that is never dialed."""
        if not progress.secured:
            raise refusal(Reason.ENDPOINT_REFUSED, progress, hint="what goes through a proxy must be https")
        if is_never_dialed(parse_url(proxy.url).host):
            raise refusal(Reason.ADDRESS_REFUSED, progress, hint=PROXY_ADDRESS_HINT)

    async def _exchange(self, request: Request, progress: Progress) -> Response:
        client = await self._opened()
        answer = await client.request(
            request.method,
            URL(request.url, encoded=True),  # as it is: an endpoint is called exactly as the server wrote it
            headers=_headers(request),
            data=_form(request),
            allow_redirects=False,
            proxy=self._proxy.url if self._proxy is not None else None,
            proxy_headers=self._proxy.headers(USER_AGENT) if self._proxy is not None else None,
            trace_request_ctx=progress,
            middlewares=(self._once(progress),),
        )
        progress.status = answer.status
        try:
            body = await self._read(answer, progress)
        except BaseException:
            _drop(answer)
            raise
        return Response(status=answer.status, headers=_values(answer), body=body)

    async def _read(self, answer: aiohttp.ClientResponse, progress: Progress) -> bytes:
        if answer.status not in FINAL_STATUSES:
            raise refusal(Reason.PROTOCOL_VIOLATED, progress)
        if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise refusal(Reason.ENCODED, progress)
        declared, body = answer.content_length or 0, bytearray()
        while declared <= self._max_body and len(body) <= self._max_body:
            piece = await read_piece(answer, min(READ_SIZE, self._max_body + 1 - len(body)))
            if not piece:
                return bytes(body)
            body += piece
        raise refusal(Reason.TOO_LARGE, progress)

    def _once(self, progress: Progress) -> aiohttp.ClientMiddlewareType:
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
                    if self._closed or progress.written or not progress.reused:
                        raise self._translated(error, progress) from None
                    progress.connected = progress.reused = False

        return middleware

    def _translated(self, error: Exception, progress: Progress) -> RemoteError:
        if self._closed:
            return _was_closed(progress)
        expired = self._not_after is not None and self._not_after <= self._clock.wall()
        return translate(error, progress, certificate_expired=expired)

    async def _opened(self) -> aiohttp.ClientSession:
        """
        Give the client, and never one with connections from before the machine slept.

        The loop's clock stood still meanwhile, so that aiohttp takes them for fresh; their peers do not.
        """
        asleep = self._clock.boot() - asyncio.get_running_loop().time()  # since some day, that is: compared only
        if self._client is not None and asleep - self._opened_at > KEEPALIVE:
            self._retired.append(self._client)
            self._client = None
        if len(self._under_way) <= 1:  # this call alone: nothing is under way on the others
            await self._end_retired()
        if self._client is None:
            self._opened_at = asleep
            self._client = aiohttp.ClientSession(
                connector=Connector(
                    ssl=self._ssl_context,
                    resolver=self._resolver,
                    keepalive_timeout=KEEPALIVE,
                    limit=MAX_CONNECTIONS,
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
        return self._client

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


def _headers(request: Request) -> dict[str, str]:
    """Give the headers that go out beside Host and Content-Length; those of transport cannot be overridden."""
    headers = {"accept": "application/json", "user-agent": USER_AGENT}
    headers.update((name.lower(), value) for name, value in request.headers.items())
    headers.update(credential_headers(request.credential, request.proof))
    headers["accept-encoding"] = "identity"
    if request.form is not None:
        headers["content-type"] = "application/x-www-form-urlencoded"
    return headers


def _form(request: Request) -> bytes | None:
    """Encode the form (RFC 6749 appendix B), with its secrets and the client's credential at its end."""
    if request.form is None:
        return None
    secrets = [(name, value.reveal()) for name, value in request.secret_fields]
    return urlencode([*request.form, *secrets, *credential_form(request.credential)]).encode("ascii")


def _values(answer: aiohttp.ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        folded = name.lower()
        if folded in LISTS and folded in headers:
            headers[folded] += f", {value}"
        headers.setdefault(folded, value)
    return headers


def _drop(answer: aiohttp.ClientResponse) -> None:
    """Close the connection of an answer that is not read to its end, without a good-bye to the peer."""
    connection = answer.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    answer.close()


def _was_closed(progress: Progress) -> RemoteError:
    return RemoteError(
        Reason.CONNECTION_LOST, "the session was closed", outcome=progress.outcome, status=progress.status
    )
