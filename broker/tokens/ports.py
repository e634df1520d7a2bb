"""What the lifecycle needs from the world, as protocols: ``broker.wiring`` fills them, tests with fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from broker.oauth.jwks import JwkSet
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer
from broker.tokens.serving import Serving, Standing, TokenStatus


class Clock(Protocol):
    """Two clocks, both in seconds. Neither is ever read by any other way."""

    def boot(self) -> float:
        """Give CLOCK_BOOTTIME: never steps, goes on while the machine sleeps. For deadlines."""

    def wall(self) -> float:
        """Give Unix time: may jump. For JWT claims, display and dates of certificates."""


class Randomness(Protocol):
    """Chance, handed in so that tests can load the dice."""

    def token(self, nbytes: int) -> str:
        """Give *nbytes* random bytes from the operating system as base64url without padding."""

    def uniform(self) -> float:
        """Give a number in [0, 1) for jitter."""


class Signer(Protocol):
    """A signing key, wherever it lives: file, token or remote service."""

    @property
    def alg(self) -> str:
        """The JWS algorithm (RFC 7518 section 3.1)."""

    @property
    def thumbprint(self) -> str:
        """What tells this key from others, whatever its ``kid`` (RFC 7638)."""

    async def sign(self, typ: str | None, claims: Mapping[str, Any]) -> str:
        """Make a compact JWS of *claims* with our ``alg`` and ``kid``, and ``typ`` if given. Raises LocalError."""


class ProofKey(Protocol):
    """A key that tokens are bound to by DPoP (RFC 9449), wherever it lives. It signs proofs and nothing else."""

    @property
    def alg(self) -> str:
        """The JWS algorithm (RFC 7518 section 3.1)."""

    @property
    def jkt(self) -> str:
        """Its thumbprint (RFC 7638)."""

    async def prove(self, claims: Mapping[str, Any]) -> str:
        """Make a proof that says *claims*: a compact JWS whose header has the public key. Raises LocalError."""


class Session(Protocol):
    """Connections to one authorization server with one certificate generation, or with none."""

    @property
    def thumbprint(self) -> str | None:
        """``x5t#S256`` of the certificate that these connections present, or None."""

    @property
    def not_after(self) -> float | None:
        """Unix time when that certificate ends, or None."""

    async def send(self, request: Request) -> Response:
        """
        Transmit once; never retried, never redirected.

        Raises RemoteError with the outcomes ``not_sent`` and ``unknown``; the latter also for an answer that
        is too large or encoded, because what it would have said is not known.
        """


class MetadataSource(Protocol):
    """The metadata of one issuer: cached, refreshed in time, the last good kept."""

    async def get(self) -> AuthorizationServer:
        """Give accepted metadata. Raises RemoteError when there is none and none can be fetched."""

    def doubt(self) -> None:
        """Take in that a request failed which the metadata led to: it may have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """
    What a caller that waits for news of a token looks at.

    *news* is resolved when the standing changes or the configuration is replaced; it is shared and must not be
    cancelled. *standing* gives how the token stands now.
    """

    news: asyncio.Future[None]
    standing: Callable[[], Standing]


class KeySource(Protocol):
    """The public keys of one issuer."""

    async def get(self) -> JwkSet:
        """Give the keys. Raises RemoteError ``keys_unavailable``."""

    async def get_newer(self, than: JwkSet) -> JwkSet | None:
        """Give keys newer than those, because one was missing; None when it is too soon. Raises as ``get`` does."""


class TokenSource(Protocol):
    """What the local API needs: implemented by ``tokens.source.Tokens``."""

    def at_once(self, name: str, *, min_valid: float | None) -> Serving | None:
        """
        Give the token that ``get`` would give, where ``get`` would not wait and change nothing. Raises nothing.

        None means that ``get`` has to be asked, also about a name that is not configured.
        """

    async def get(self, name: str, *, min_valid: float | None, wait: float) -> Serving:
        """
        Give a token with at least *min_valid* seconds left (None: the default of local-api.md).

        Waits at most *wait* seconds for a refresh. Raises TokenUnavailableError; KeyError for a name that is
        not configured.
        """

    async def refresh(self, name: str, *, rejected: str | None, wait: float, begun: Callable[[], None]) -> Serving:
        """
        Fetch another token now, and give it.

        Gives the one in hand if it is not the *rejected* one (an ETag), was fetched within the cooldown, or is
        still good when the attempt failed or took longer than *wait* seconds. Callers share an attempt; whose
        call begins one has *begun* called. Raises as ``get``.
        """

    def watch(self, name: str) -> AbstractContextManager[Watch]:
        """Take in that a caller waits for news of the token *name*, while the block runs. Raises KeyError."""

    def status(self, name: str) -> TokenStatus:
        """Say how the token *name* stands. Raises KeyError."""

    def grant_of(self, name: str) -> str | None:
        """Give the id of the one grant that the token *name* stands for, None where there is none."""

    def names(self) -> Collection[str]:
        """Give all configured names, in the order of the configuration; that of a moment, whatever is reloaded."""

    def required(self) -> Collection[str]:
        """Give those of ``names`` without which the broker is not ready, at no cost."""


Fingerprint = Callable[[str], str]
"""Turns a secret into a keyed digest that logs and audit records may hold."""
