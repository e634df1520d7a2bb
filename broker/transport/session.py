"""
Requests to authorization servers with one certificate generation, or with none.

One ``Session`` holds one SSL context for its whole life: a changed context would go on being used by
pooled connections with the old certificate, so a new generation is a new session. Beside the client rules of
``connections`` it keeps those for what is sent and read (rules.md R5): identity encoding, a cap on bytes and a
deadline on everything.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from broker.oauth.client_auth import credential_form, credential_headers
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.tokens.ports import Clock
from broker.transport.connections import FINAL_STATUSES, READ_SIZE, USER_AGENT, Connections, drop, was_closed
from broker.transport.failures import FOREIGN, Progress, refusal
from broker.transport.proxy import Proxy
from broker.transport.reading import read_piece
from broker.transport.resolver import Lookup, look_up
from broker.transport.sockets import turns_until

DEADLINE = 10.0
"""Seconds for a whole exchange, name lookup to last byte: the longest that a caller waits for a token."""

MAX_BODY = 128 * 1024
"""
Bytes of an answer: token responses with large ID tokens stay below 100 KiB, so this is never met in good faith.

To judge the structure of so much hostile JSON takes the loop some 15 ms; a mebibyte took 120.
"""

MAX_CONNECTIONS = 16
"""At once to all hosts of a session: above the per-issuer concurrency, below what an fd limit would notice."""

LISTS = frozenset({"www-authenticate", "dpop-nonce"})
"""
Fields that are told whole. Of challenges each counts (RFC 9110 section 11.6.1); nonces that are two are none, and
with the space between them they do not look like one.
"""


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
        self._connections = Connections(
            ssl_context=ssl_context,
            thumbprint=thumbprint,
            not_after=not_after,
            clock=clock,
            proxy=proxy,
            lookup=lookup,
            limit=MAX_CONNECTIONS,
        )
        self._deadline = deadline
        self._max_body = max_body
        self._under_way: set[asyncio.Timeout] = set()

    @property
    def thumbprint(self) -> str | None:
        """``x5t#S256`` of the certificate that these connections present, or None."""
        return self._connections.thumbprint

    @property
    def not_after(self) -> float | None:
        """Unix time when that certificate ends, or None."""
        return self._connections.not_after

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that every connection goes through, or None."""
        return self._connections.proxy

    async def send(self, request: Request) -> Response:
        """
        Transmit once; never retried, never redirected.

        Raises RemoteError with the outcomes ``not_sent`` and ``unknown``; *status* is set once the head of
        an answer had arrived, also for one that is too large or encoded.
        """
        progress = self._connections.begun(request.url)
        if self._connections.closed:
            raise was_closed(progress)
        try:
            async with asyncio.timeout(self._deadline) as deadline:
                self._under_way.add(deadline)
                try:
                    return await self._exchange(request, progress)
                finally:
                    self._under_way.discard(deadline)
        except FOREIGN as error:
            raise self._connections.translated(error, progress) from None

    async def close(self) -> None:
        """Close every connection; calls under way fail. When it returns, no socket is open."""
        self._connections.closed = True
        for deadline in self._under_way:
            if not deadline.expired():
                deadline.reschedule(0.0)
        await turns_until(lambda: not self._under_way)
        await self._connections.end()

    async def _exchange(self, request: Request, progress: Progress) -> Response:
        client = await self._connections.client(alone=len(self._under_way) <= 1)
        proxy = self._connections.proxy
        answer = await client.request(
            request.method,
            URL(_url(request), encoded=True),  # as it is: an endpoint is called exactly as the server wrote it
            headers=_headers(request),
            data=None if request.in_query else _form(request),
            allow_redirects=False,
            proxy=proxy.url if proxy is not None else None,
            proxy_headers=proxy.headers(USER_AGENT) if proxy is not None else None,
            trace_request_ctx=progress,
            middlewares=(self._connections.once(progress),),
        )
        progress.status = answer.status
        try:
            body = await self._read(answer, progress)
        except BaseException:
            drop(answer)
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


def _headers(request: Request) -> dict[str, str]:
    """Give the headers that go out beside Host and Content-Length; those of transport cannot be overridden."""
    headers = {"accept": "application/json", "user-agent": USER_AGENT}
    headers.update((name.lower(), value) for name, value in request.headers.items())
    headers.update(credential_headers(request.credential, request.proof))
    headers["accept-encoding"] = "identity"
    if request.form is not None and not request.in_query:
        headers["content-type"] = "application/x-www-form-urlencoded"
    return headers


def _url(request: Request) -> str:
    """Give the URL, with the form in it where a dialect has it there: it holds secrets then, and goes nowhere else."""
    form = _form(request) if request.in_query else None
    if form is None:
        return request.url
    return f"{request.url}{'&' if '?' in request.url else '?'}{form.decode('ascii')}"


def _form(request: Request) -> bytes | None:
    """Encode the form (RFC 6749 appendix B), with its secrets and the client's credential at its end."""
    if request.form is None:
        return None
    secrets = [(name, value.reveal()) for name, value in request.secret_fields]
    theirs = dict(request.renamed)
    fields = [*request.form, *secrets, *credential_form(request.credential)]
    return urlencode([(theirs.get(name, name), value) for name, value in fields]).encode("ascii")


def _values(answer: aiohttp.ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        folded = name.lower()
        if folded in LISTS and folded in headers:
            headers[folded] += f", {value}"
        headers.setdefault(folded, value)
    return headers
