"""
Completes a draft and sends it: the only place that does.

Every transmission gets a fresh client assertion with a fresh ``jti`` (rules.md R1); nothing is sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.oauth.client_auth import assertion_claims, basic_credentials
from broker.oauth.jose import ASSERTION_TYP
from broker.oauth.messages import AssertionSpec, BasicSpec, Credential, Draft, PostSpec, Request, Response
from broker.oauth.secret import ClientAssertion, ClientSecret
from broker.tokens.ports import Clock, Randomness, Session, Signer

JTI_BYTES = 16
"""128 random bits: no two assertions of any broker share a ``jti``."""


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
        request = Request(
            method="POST",
            url=draft.url,
            headers={"accept": "application/json"},
            form=draft.form,
            credential=credential,
        )
        return Sent(response=await self.session.send(request), started_at=started_at)

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
