"""
Completes a draft and sends it: the only place that does.

Every transmission gets a fresh client assertion with a fresh ``jti``, and a fresh DPoP proof (rules.md R1); nothing
is sent twice. What a server refuses because it wants a nonce in the proof is made anew and sent once more.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace

from broker.oauth.answers import understood
from broker.oauth.client_auth import assertion_claims, basic_credentials
from broker.oauth.dialect import STANDARD, Dialect
from broker.oauth.dpop import asks_for_nonce, is_nonce_challenge
from broker.oauth.jose import ASSERTION_TYP
from broker.oauth.messages import (
    AssertionSpec,
    BasicSpec,
    BearerSpec,
    Credential,
    Draft,
    PostSpec,
    Request,
    RequestObjectSpec,
    Response,
    SecretFields,
)
from broker.oauth.secret import AccessToken, ClientAssertion, ClientSecret, DpopProof, RequestObject
from broker.tokens.ports import Clock, Randomness, Session, Signer
from broker.tokens.proofs import JTI_BYTES, Proofs

REQUEST_OBJECT_LIFETIME = 300
"""Seconds: a request object by value waits in a browser, and FAPI allows up to an hour (JAR-01)."""

REQUEST_OBJECT_LEEWAY = 10
"""Seconds that ``nbf`` lies back: a server whose clock is behind ours refuses what is not valid yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request that was answered: *started_at* is when it was begun (boot clock), before a byte was written."""

    response: Response
    started_at: float


@dataclass(slots=True, kw_only=True)
class Transmission:
    """
    One transmission to be: its ``jti`` is known before it is sent, so that a failure can be told by it.

    *jti* is None for a client that makes no assertions: there is nothing that the server could know it by. It is
    another one when the server wanted a nonce and the request was made anew. *jkt* is the thumbprint of the DPoP key
    that proofs are made with, None for a client without.
    """

    jti: str | None
    jkt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """
    A client's means to send: its signing key or secret, and the session that presents its certificate.

    *proofs* are there where tokens are bound by DPoP. *dialect* is the server's: what it says in its own way comes
    out as the standard has it.
    """

    session: Session
    signer: Signer | None
    secret: ClientSecret | None = None
    proofs: Proofs | None = None
    dialect: Dialect = STANDARD
    clock: Clock
    randomness: Randomness

    @property
    def jkt(self) -> str | None:
        """The thumbprint of the DPoP key that tokens are asked for with now, None where there is none."""
        return None if self.proofs is None else self.proofs.jkt

    def holds(self, jkt: str | None) -> bool:
        """Say whether what is bound to the DPoP key of *jkt*, None: to none, can be used by this client."""
        return jkt is None if self.proofs is None else self.proofs.knows(jkt)

    def prepare(self, jkt: str | None = None) -> Transmission:
        """Draw what makes the next transmission unique; *jkt* chooses an older DPoP key, as far as there are any."""
        ours = self.jkt
        return Transmission(jti=self._jti(), jkt=ours if ours is None or jkt is None else jkt)

    async def send(self, draft: Draft, transmission: Transmission) -> Sent:
        """
        Sign what has to be signed, and send, once: again only if the server wants a nonce in the DPoP proof.

        It says so of a request that it has not processed (RFC 9449 section 8), so that a code or a refresh token in
        it is not spent (rules.md R1). All that is signed is new then. The second request has the turn of the first.

        Raises LocalError when a key cannot sign, RemoteError with the outcome when there is no answer, and
        TypeError, with nothing sent, for a draft that needs what this client was not built with.
        """
        started_at = self.clock.boot()
        request = await self._completed(draft, transmission)
        await asyncio.sleep(0)  # callers of the API do not wait for both, the signature and what sending costs
        response = await self.session.send(request)
        nonce = self._note(draft, response)
        if nonce is not None and asks_for_nonce(response):
            transmission.jti = self._jti()
            response = await self.session.send(await self._completed(draft, transmission, nonce))
            self._note(draft, response)
        return Sent(response=understood(response, self.dialect), started_at=started_at)

    async def fetch(self, request: Request, access_token: AccessToken, transmission: Transmission) -> Response:
        """
        Send *request* with *access_token* to a resource of the authorization server, and with a proof if it is bound.

        As ``send``, but what asks for a nonce is a challenge there (RFC 9449 section 9).
        """
        proofs, jkt = self.proofs, transmission.jkt
        request = replace(request, credential=access_token)
        if proofs is None:
            return understood(await self.session.send(request), self.dialect)
        proof = await proofs.for_resource(request.method, request.url, access_token, jkt=jkt)
        response = await self.session.send(replace(request, proof=proof))
        nonce = proofs.note_resource(request.url, response.headers.items())
        if nonce is not None and is_nonce_challenge(response.status, [response.headers.get("www-authenticate", "")]):
            proof = await proofs.for_resource(request.method, request.url, access_token, jkt=jkt, nonce=nonce)
            response = await self.session.send(replace(request, proof=proof))
            proofs.note_resource(request.url, response.headers.items())
        return understood(response, self.dialect)

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

    def _jti(self) -> str | None:
        return None if self.signer is None else self.randomness.token(JTI_BYTES)

    async def _completed(self, draft: Draft, transmission: Transmission, nonce: str | None = None) -> Request:
        """Sign what has to be signed, for one transmission."""
        credential = await self._credential(draft, transmission)
        asked: SecretFields = ()
        if draft.request_object is not None:
            asked = (("request", await self.sign_request_object(draft.request_object)),)
        return Request(
            method=draft.method,
            url=draft.url,
            headers={"accept": "application/json"},
            form=draft.form,
            credential=credential,
            secret_fields=(*draft.secret_fields, *asked),
            proof=await self._proof(draft, transmission, nonce),
            in_query=draft.in_query,
            renamed=self.dialect.renamed_parameters,
        )

    async def _proof(self, draft: Draft, transmission: Transmission, nonce: str | None) -> DpopProof | None:
        """Make the one that the draft asks for, and never send without it: what came of it would not be bound."""
        if not draft.proves:
            return None
        if self.proofs is None or transmission.jkt is None:
            raise TypeError("the client has no key to make a DPoP proof with")
        return await self.proofs.for_server("POST", draft.url, jkt=transmission.jkt, nonce=nonce)

    def _note(self, draft: Draft, response: Response) -> str | None:
        """Take in the nonce of an answer, whatever else it is; None for a draft without a proof, whoever sends one."""
        if self.proofs is None or not draft.proves:
            return None
        return self.proofs.note_server(draft.url, response.headers.items())

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
            case BearerSpec(access_token=access_token):
                return access_token
            case _:
                raise TypeError("the client has nothing to authenticate with")
