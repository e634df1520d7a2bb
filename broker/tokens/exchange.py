"""
Completes a draft and sends it: the only place that does.

Every transmission gets a fresh client assertion with a fresh ``jti`` (rules.md R1); nothing is sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.oauth.client_auth import assertion_claims
from broker.oauth.jose import ASSERTION_TYP
from broker.oauth.messages import Draft, Request, Response
from broker.oauth.secret import ClientAssertion
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
    """One transmission to be: its ``jti`` is known before it is sent, so that a failure can be told by it."""

    jti: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A client's means to send: its signing key, and the session that presents its certificate."""

    session: Session
    signer: Signer | None
    clock: Clock
    randomness: Randomness

    def prepare(self) -> Transmission:
        """Draw what makes the next transmission unique."""
        return Transmission(jti=self.randomness.token(JTI_BYTES))

    async def send(self, draft: Draft, transmission: Transmission) -> Sent:
        """
        Sign what has to be signed, and send, once.

        Raises LocalError when the key cannot sign, RemoteError with the outcome when there is no answer.
        """
        started_at = self.clock.boot()
        assertion = await self._assertion(draft, transmission)
        request = Request(
            method="POST",
            url=draft.url,
            headers={"accept": "application/json"},
            form=draft.form,
            client_assertion=assertion,
        )
        return Sent(response=await self.session.send(request), started_at=started_at)

    async def _assertion(self, draft: Draft, transmission: Transmission) -> ClientAssertion | None:
        if draft.assertion is None or self.signer is None:
            return None
        claims = assertion_claims(draft.assertion, now=self.clock.wall(), jti=transmission.jti)
        return ClientAssertion(await self.signer.sign(ASSERTION_TYP, claims))
