"""
The metadata of one issuer: fetched when needed, kept for an hour, and kept on when the server fails.

Callers that come together share one fetch without a task of its own: they queue at a lock, the first
fetches, and the others find what it found. If the first is cancelled, the next in the queue fetches. What is
accepted and what is refused is decided in ``broker.oauth.metadata``; this module only keeps and reports.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from broker.errors import RemoteError
from broker.events import Emit, MetadataLoaded, MetadataRefused, SandboxIssuerInUse
from broker.oauth.client import Issuer
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer, discovery_urls, read_metadata
from broker.tokens.ports import Clock, Randomness, Session
from broker.transport.retries import Sleep, get_with_retries

NOT_FOUND = 404
"""The status with which the next place is tried."""

NOT_THERE = "see that issuer is right to the letter, and discovery: nothing is there"
"""What to do about it where there is no other place."""

METADATA_TTL = 3_600.0
"""Seconds that metadata is good for: servers change theirs with notice of days, and a fleet asks often enough."""

KEPT_TTL = 60.0
"""
Seconds that kept metadata goes on after a fetch failed, before the next one is tried.

A server whose metadata hangs must not add its time-out to every token request.
"""

DOUBTED_TTL = 10.0
"""
Seconds that metadata is good for when a request that it led to failed.

The endpoint may have moved, or what was missing may be offered now; six requests a minute of one issuer
find out.
"""

FAILED_TTL = 1.0
"""
Seconds that a failure is told again without a request, where there is no metadata at all.

Every token of the issuer asks, each on its own backoff: fifty of them must not make a request each. No
longer than the least backoff, so that the next attempt of one token is always a real one.
"""

JITTER = 0.1
"""Part of either time that is left to chance, so that brokers that started together do not ask together."""

METADATA_MAX_BODY = 512 * 1024
"""Bytes; for the session that fetches. Documents of large servers have about 10 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    """How the last fetch failed, for those who waited for it."""

    error: RemoteError

    def again(self) -> RemoteError:
        """Make the error anew: one exception raised in many tasks would mix up their tracebacks."""
        first = self.error
        return RemoteError(
            first.code,
            first.message,
            outcome=first.outcome,
            hint=first.hint,
            status=first.status,
            server_error=first.server_error,
            retry_after=first.retry_after,
        )


class Metadata:
    """
    Implements ``tokens.ports.MetadataSource`` for *issuer*.

    Good metadata is kept without end when later fetches fail: its endpoints were accepted once, each is
    still checked by TLS when it is dialed, and to stop refreshing tokens would make an outage of one
    document an outage of every token. The event of each failed fetch says so.
    """

    def __init__(
        self,
        *,
        issuer: Issuer,
        session: Session,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._issuer = issuer
        self._session = session
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._server: AuthorizationServer | None = None
        self._good_until = 0.0
        self._fetched_at = 0.0
        self._failed_at = 0.0
        self._failure: _Failure | None = None
        self._fetches = 0
        self._sandbox_reported = False

    async def get(self) -> AuthorizationServer:
        """Give accepted metadata. Raises RemoteError when there is none and none can be fetched."""
        seen = self._fetches
        if (server := self._fresh()) is not None:
            return server
        async with self._lock:
            if self._fetches == seen and not self._failed_just_now():
                await self._fetch()
        if self._server is not None:
            return self._server
        assert self._failure is not None
        raise self._failure.again()

    def renew(self, session: Session) -> None:
        """Fetch with *session* from now on, and before the next use; what is good is kept if that fails."""
        self._session = session
        self._good_until = 0.0

    def doubt(self) -> None:
        """Take in that a request failed which this metadata led to: it is fetched anew before long."""
        self._good_until = min(self._good_until, self._fetched_at + DOUBTED_TTL)

    def _failed_just_now(self) -> bool:
        since = self._clock.boot() - self._failed_at
        return self._server is None and self._failure is not None and since < FAILED_TTL

    def _fresh(self) -> AuthorizationServer | None:
        return self._server if self._clock.boot() < self._good_until else None

    async def _fetch(self) -> None:
        """Fetch once and take in how it went; a cancelled fetch leaves no trace."""
        try:
            server = await self._ask()
        except RemoteError as error:
            self._refuse(error)
        else:
            self._accept(server)
        self._fetches += 1

    async def _ask(self) -> AuthorizationServer:
        response: Response | None = None
        for url in discovery_urls(self._issuer):
            response = await get_with_retries(
                self._session,
                Request(method="GET", url=url),
                clock=self._clock,
                randomness=self._randomness,
                sleep=self._sleep,
            )
            if response.status != NOT_FOUND:
                break
        assert response is not None
        try:
            return read_metadata(response, self._issuer, wall_now=self._clock.wall())
        except RemoteError as error:
            if error.status == NOT_FOUND:
                error.hint = NOT_THERE
            raise

    def _accept(self, server: AuthorizationServer) -> None:
        self._server, self._failure = server, None
        self._fetched_at = self._clock.boot()
        self._good_until = self._fetched_at + self._with_jitter(METADATA_TTL)
        self._emit(MetadataLoaded(issuer=self._issuer.name, token_endpoint=_origin(server.token_endpoint)))
        if server.sandbox and not self._sandbox_reported:
            self._sandbox_reported = True
            self._emit(SandboxIssuerInUse(issuer=self._issuer.name))

    def _refuse(self, error: RemoteError) -> None:
        self._failure = _Failure(error=error)
        self._failed_at = self._clock.boot()
        kept = self._server is not None
        if kept:
            self._fetched_at = self._clock.boot()
            self._good_until = self._fetched_at + self._with_jitter(KEPT_TTL)
        self._emit(MetadataRefused(issuer=self._issuer.name, reason=error.code, hint=error.hint, kept=kept))

    def _with_jitter(self, seconds: float) -> float:
        return seconds * (1.0 - JITTER * self._randomness.uniform())


class Described:
    """Implements ``tokens.ports.MetadataSource`` for a *server* that a dialect describes: nothing is ever fetched."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    async def get(self) -> AuthorizationServer:
        """Give it."""
        return self._server

    def renew(self, session: Session) -> None:
        """Take in that there is a newer session to fetch with, for which there is no use."""

    def doubt(self) -> None:
        """Take in that a request failed: what an operator wrote does not change for it."""


def _origin(url: str) -> str:
    """Give scheme, host and port; path and query are the server's own words, and stay out of the logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
