"""
Completes a draft and sends it: the only place that does.

Every transmission gets a fresh client assertion with a fresh ``jti`` (rules.md R1); nothing is sent twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from broker.oauth.client_auth import assertion_claims, basic_credentials
from broker.oauth.jose import ASSERTION_TYP
from broker.oauth.messages import (
    AssertionSpec,
    BasicSpec,
    Credential,
    Draft,
    PostSpec,
    Request,
    RequestObjectSpec,
    Response,
    SecretFields,
)
from broker.oauth.secret import ClientAssertion, ClientSecret, RequestObject
from broker.tokens.ports import Clock, Randomness, Session, Signer

JTI_BYTES = 16
"""128 random bits: no two assertions of any broker share a ``jti``."""

REQUEST_OBJECT_LIFETIME = 300
"""Seconds: a request object by value waits in a browser, and FAPI allows up to an hour (JAR-01)."""

REQUEST_OBJECT_LEEWAY = 10
"""Seconds that ``nbf`` lies back: a server whose clock is behind ours refuses what is not valid yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request that was answered: *started_at* is when it was begun (boot clock), before a byte was written."""

    response: Response
    started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmission:
    """
    One transmission to be: its ``jti`` is known before it is sent, so that a failure can be told by it.

    None for a client that makes no assertions: there is nothing that the server could know it by.
    """

    jti: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A client's means to send: its signing key or secret, and the session that presents its certificate."""

    session: Session
    signer: Signer | None
    secret: ClientSecret | None = None
    clock: Clock
    randomness: Randomness

    def prepare(self) -> Transmission:
        """Draw what makes the next transmission unique."""
        return Transmission(jti=None if self.signer is None else self.randomness.token(JTI_BYTES))

    async def send(self, draft: Draft, transmission: Transmission) -> Sent:
        """
        Sign what has to be signed, and send, once.

        Raises LocalError when the key cannot sign, RemoteError with the outcome when there is no answer, and
        TypeError, with nothing sent, for a draft that needs what this client was not built with.
        """
        started_at = self.clock.boot()
        credential = await self._credential(draft, transmission)
        asked: SecretFields = ()
        if draft.request_object is not None:
            asked = (("request", await self.sign_request_object(draft.request_object)),)
        request = Request(
            method="POST",
            url=draft.url,
            headers={"accept": "application/json"},
            form=draft.form,
            credential=credential,
            secret_fields=(*draft.secret_fields, *asked),
        )
        return Sent(response=await self.session.send(request), started_at=started_at)

    async def sign_request_object(self, spec: RequestObjectSpec) -> RequestObject:
        """
        Sign a request object (RFC 9101), good for one use.

        Raises LocalError when the key cannot sign, and TypeError for a client without one.
        """
        if self.signer is None:
            raise TypeError("the client has no key to sign a request object with")
        now = math.floor(self.clock.wall())
        claims = {
            **spec.claims,
            "jti": self.randomness.token(JTI_BYTES),
            "iat": now,
            "nbf": now - REQUEST_OBJECT_LEEWAY,
            "exp": now + REQUEST_OBJECT_LIFETIME,
        }
        return RequestObject(await self.signer.sign(spec.typ, claims))

    async def _credential(self, draft: Draft, transmission: Transmission) -> Credential | None:
        """Make the one that the draft asks for, and never send without it."""
        match draft.credential:
            case None:
                return None
            case AssertionSpec() as spec if self.signer is not None and transmission.jti is not None:
                claims = assertion_claims(spec, now=self.clock.wall(), jti=transmission.jti)
                return ClientAssertion(await self.signer.sign(ASSERTION_TYP, claims))
            case BasicSpec() as spec if self.secret is not None:
                return basic_credentials(spec, self.secret)
            case PostSpec() if self.secret is not None:
                return self.secret
            case _:
                raise TypeError("the client has nothing to authenticate with")
