"""
From a token's spec to an access token that passed every check: metadata, draft, exchange, reading.

When to make an attempt, and what its failure means, is decided in ``state``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broker.errors import Outcome, RemoteError
from broker.oauth.capabilities import check_capabilities
from broker.oauth.client import Client, Issuer
from broker.oauth.grants import client_credentials_draft
from broker.oauth.messages import Draft
from broker.oauth.reasons import Reason
from broker.oauth.token_response import TokenResponse, read_token_response
from broker.tokens.exchange import Exchange, Sent, Transmission
from broker.tokens.ports import Clock, Fingerprint, KeySource, MetadataSource, Randomness
from broker.tokens.spec import IssuedToken, TokenSpec

ETAG_BYTES = 12
"""96 random bits: an ETag tells nothing about the token and never repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A client as it is registered at an issuer, with the means to speak to it; *keys* are the issuer's public ones."""

    client: Client
    issuer: Issuer
    metadata: MetadataSource
    exchange: Exchange
    keys: KeySource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to get the token of *spec*; *number* counts them and becomes the token's generation."""

    number: int
    spec: TokenSpec
    registration: Registration
    transmission: Transmission
    started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquirer:
    """Makes attempts for every token; it has no state."""

    clock: Clock
    randomness: Randomness
    fingerprint: Fingerprint

    async def draft(self, spec: TokenSpec, registration: Registration) -> Draft:
        """
        Draft the token request from the issuer's metadata.

        Raises RemoteError when there is no metadata, or the server does not offer what the client needs.
        """
        server = await registration.metadata.get()
        check_capabilities(server, registration.client, registration.issuer)
        return client_credentials_draft(
            server,
            registration.issuer,
            registration.client,
            scope=spec.scope,
            resource=spec.resource,
            audience=spec.audience,
            parameters=spec.parameters,
        )

    async def obtain(self, draft: Draft, attempt: Attempt) -> IssuedToken:
        """
        Send the draft, once, and read the answer.

        Raises LocalError or RemoteError; whatever it raises, nothing that is being served is touched.
        """
        spec, exchange = attempt.spec, attempt.registration.exchange
        sent = await exchange.send(draft, attempt.transmission)
        await asyncio.sleep(0)  # callers of the API do not wait for all that an answer needs: another is easily had
        answer = read_token_response(
            sent.response,
            client=attempt.registration.client,
            asked_scope=spec.scope,
            certificate_thumbprint=exchange.session.thumbprint,
            jkt=attempt.transmission.jkt,
            wall_now=self.clock.wall(),
        )
        return self.issued(attempt, sent, answer)

    def issued(self, attempt: Attempt, sent: Sent, answer: TokenResponse) -> IssuedToken:
        """Make the token of an answer that passed its checks. Raises RemoteError when it ended before it came."""
        spec, registration = attempt.spec, attempt.registration
        lifetime = answer.expires_in if answer.expires_in is not None else spec.default_lifetime
        started_at_wall = self.clock.wall() - (self.clock.boot() - sent.started_at)
        expires_at_wall = self._cap(started_at_wall + lifetime, registration)
        if expires_at_wall <= started_at_wall:
            raise RemoteError(
                Reason.CERTIFICATE_EXPIRED,
                "the certificate that the token would be bound to has ended",
                outcome=Outcome.ANSWERED,
                status=sent.response.status,
                hint="renew the client's certificate",
            )
        expires_at = sent.started_at + (expires_at_wall - started_at_wall)
        if expires_at <= self.clock.boot():
            raise RemoteError(
                Reason.TIMED_OUT,
                "the answer took longer than the token lives",
                outcome=Outcome.ANSWERED,
                status=sent.response.status,
                hint="ask the operator of the server for tokens that live longer",
            )
        return IssuedToken(
            access_token=answer.access_token,
            token_type=answer.token_type,
            scope=answer.scope if answer.scope is not None else spec.scope,
            issuer=registration.issuer.issuer,
            obtained_at=sent.started_at,
            expires_at=expires_at,
            expires_at_wall=expires_at_wall,
            certificate_not_after=registration.exchange.session.not_after,
            generation=attempt.number,
            etag=self.randomness.token(ETAG_BYTES),
            fingerprint=self.fingerprint(answer.access_token.reveal()),
            binding=answer.binding,
            certificate_thumbprint=answer.certificate_thumbprint,
            jkt=answer.jkt,
            jti=attempt.transmission.jti,
        )

    def _cap(self, expires_at_wall: float, registration: Registration) -> float:
        """End a token no later than the certificate that it is useless without (rules.md R8)."""
        not_after = registration.exchange.session.not_after
        return expires_at_wall if not_after is None else min(expires_at_wall, not_after)
