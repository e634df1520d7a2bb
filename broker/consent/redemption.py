"""
From what came back with the browser to a grant in use: the checks, the one exchange of the code, and whose it is.

A refresh token is durable before anything else of its answer is looked at (rules.md R2.2), as a grant that
nobody can use; it becomes one when every check has passed, and is revoked when one has not (R4). After a
failed check no other call is made than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from broker.consent.callback import Callback, parameters_of
from broker.consent.errors import NoSuchGrantError, SubjectMismatchError
from broker.consent.pending import Pending
from broker.consent.ports import GrantBook
from broker.errors import BrokerError, Outcome, RemoteError
from broker.oauth import jarm
from broker.oauth.authorization_response import Expected, read_authorization_response
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.client import ResponseMode
from broker.oauth.dialect import Logout
from broker.oauth.grants import code_draft
from broker.oauth.id_token import IdTokenClaims, IdTokenExpected, demanded_claims
from broker.oauth.jwks import JwkSet
from broker.oauth.messages import Draft
from broker.oauth.reasons import Reason
from broker.oauth.revocation import revocation_draft
from broker.oauth.secret import AuthorizationCode
from broker.oauth.token_response import (
    TokenResponse,
    access_token_of,
    granted_details,
    read_token_response,
    refresh_token_of,
)
from broker.oauth.userinfo import check_userinfo
from broker.tokens.acquire import Acquirer, Attempt, Registration
from broker.tokens.exchange import Sent
from broker.tokens.grant import Grant, Phase, SealedAccess
from broker.tokens.handover import moved
from broker.tokens.limiter import HASTE
from broker.tokens.passage import Passage
from broker.tokens.refreshing import verified_id_token
from broker.tokens.spec import Consent, Grants, IssuedToken, TokenSpec
from broker.tokens.userinfo import ask_userinfo, subject_by_userinfo
from broker.tokens.verifying import keys_of, with_keys

T = TypeVar("T")

REVOKING = 5.0
"""Seconds for the revocation of an access token that was not accepted: a caller waits."""

ID_BYTES = 32
"""256 random bits: ids of grants are guessed by nobody."""

ID_PREFIX = "g"
"""base64url may begin with a hyphen, and what does is an option to command lines."""

BEFORE_SENDING = 30.0
"""Seconds for everything that comes before the code is sent: codes live for a minute."""

TRIES = 3
PAUSE = 1.0
"""The code is sent again only after it was not sent (rules.md R1): so often, with seconds between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeemed:
    """What a consent ended in: *grant* is in use, *renewed*: it was there before."""

    grant: Grant
    token: IssuedToken
    renewed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be redeemed, and with what."""

    pending: Pending
    spec: TokenSpec
    consent: Consent
    registration: Registration
    attempt: Attempt


class Redeemer:
    """Redeems codes, each once."""

    def __init__(self, *, grants: GrantBook, acquirer: Acquirer, passage: Passage) -> None:
        self._grants = grants
        self._acquirer = acquirer
        self._passage = passage
        # Of two that consent to a token with one grant, one is the first, and the other has to be the same person.
        self._adopting = asyncio.Lock()

    async def code_of(self, pending: Pending, registration: Registration, callback: Callback) -> AuthorizationCode:
        """
        Check the response in the order of rules.md R4.

        Raises CheckFailedError; RemoteError ``keys_unavailable`` where the issuer's keys cannot be had just now,
        also those that only the ID token will need: once the code is spent it is too late to wait for them.
        """
        pairs = parameters_of(
            callback, redirect_uri=pending.transaction.redirect_uri, response_mode=pending.response_mode
        )
        signed = pending.response_mode is ResponseMode.JWT
        if signed:
            pairs = await self._unwrapped(jarm.response_jwt(pairs), registration)
        expected = Expected(
            issuer=pending.issuer,
            state=pending.transaction.state,
            iss_required=pending.iss_required,
            signed=signed,
            provider_hosts=registration.issuer.dialect.answering_hosts,
        )
        code = read_authorization_response(pairs, expected)
        if pending.asked.is_openid:
            await keys_of(registration).get()
        return code

    async def redeem(
        self,
        pending: Pending,
        spec: TokenSpec,
        registration: Registration,
        code: AuthorizationCode,
        *,
        about_to_send: Callable[[], Awaitable[None]],
    ) -> Redeemed:
        """
        Exchange the code, check everything, take the grant into use.

        *about_to_send* makes durable that the code may have been sent; what it raises comes out, and nothing
        was sent. Raises BrokerError; a grant that did not pass is gone then, but for its revocation.
        """
        exchange = registration.exchange
        order = Order(
            pending=pending,
            spec=replace(spec, scope=pending.asked.scope),
            consent=spec.consent or Consent(),
            registration=registration,
            attempt=Attempt(
                number=0,
                spec=replace(spec, scope=pending.asked.scope),
                registration=registration,
                transmission=exchange.prepare(pending.transaction.dpop_jkt),
                started_at=self._acquirer.clock.boot(),
            ),
        )
        order, sent = await self._exchanged(order, code, about_to_send)
        held = self._held(order, sent)
        if held.refresh_token is not None or held.access is not None:
            await self._grants.hold(held)
        try:
            return await self._adopted(order, sent, held)
        except Exception:
            await self._give_up(order, sent, held)
            raise

    # --- the response ---

    async def _unwrapped(self, response: str, registration: Registration) -> tuple[tuple[str, str], ...]:
        """Check a JARM response with the issuer's keys."""
        client, clock = registration.client, self._acquirer.clock

        def unwrapped(keys: JwkSet) -> tuple[tuple[str, str], ...]:
            return jarm.unwrap(
                response,
                keys,
                issuer=registration.issuer.issuer,
                client_id=client.client_id,
                alg=client.authorization_signed_response_alg,
                wall_now=clock.wall(),
            )

        return await with_keys(registration, unwrapped)

    # --- the exchange ---

    async def _exchanged(
        self, order: Order, code: AuthorizationCode, about_to_send: Callable[[], Awaitable[None]]
    ) -> tuple[Order, Sent]:
        """Send the code until it was sent: once, and again only if no byte of it was written."""
        for tries_left in reversed(range(TRIES)):
            try:
                return order, await self._send(order, code, about_to_send)
            except RemoteError as error:
                if error.outcome is not Outcome.NOT_SENT or not tries_left or error.retry_after is not None:
                    order.registration.metadata.doubt()
                    raise
            await asyncio.sleep(PAUSE)
            jkt = order.pending.transaction.dpop_jkt
            again = replace(order.attempt, transmission=order.registration.exchange.prepare(jkt))
            order = replace(order, attempt=again)
        raise AssertionError("the last try returns or raises")

    async def _send(self, order: Order, code: AuthorizationCode, about_to_send: Callable[[], Awaitable[None]]) -> Sent:
        registration = order.registration
        turn = self._passage.turn(order.pending.id, registration, rank=HASTE, still_wanted=lambda: None)
        try:
            async with asyncio.timeout(BEFORE_SENDING) as before:
                draft = await self._draft(order, code)
                async with turn:
                    await about_to_send()
                    before.reschedule(None)
                    return await self._passage.guarded(
                        registration, lambda: registration.exchange.send(draft, order.attempt.transmission)
                    )
        except TimeoutError:
            if before.expired():
                raise RemoteError(
                    Reason.TIMED_OUT, "there was no turn for the code in time", outcome=Outcome.NOT_SENT
                ) from None
            # Somebody else's deadline: whatever it was for, the code may be out (AC-07).
            raise RemoteError(
                Reason.TIMED_OUT, "the exchange of the code took too long", outcome=Outcome.UNKNOWN
            ) from None

    async def _draft(self, order: Order, code: AuthorizationCode) -> Draft:
        registration, transaction = order.registration, order.pending.transaction
        return code_draft(
            await registration.metadata.get(),
            registration.issuer,
            registration.client,
            code=code,
            code_verifier=transaction.code_verifier,
            redirect_uri=transaction.redirect_uri,
            state=transaction.state,
            scope=order.pending.asked.scope,
            resource=order.pending.asked.resource,
        )

    def _held(self, order: Order, sent: Sent) -> Grant:
        """Make the grant of an answer of which nothing is known but that it came."""
        pending, now = order.pending, self._acquirer.clock.wall()
        return Grant(
            id=f"{ID_PREFIX}{self._acquirer.randomness.token(ID_BYTES)}",
            token=pending.token,
            owner=pending.owner,
            issuer=pending.issuer,
            client_id=pending.client_id,
            created_at=now,
            since=now,
            scope=pending.asked.scope,
            asked_scope=pending.asked.scope,
            authorization_details=pending.asked.authorization_details,
            label=pending.label,
            authorization=pending.id,
            refresh_token=refresh_token_of(sent.response),
            access=self._to_log_out_with(order, sent),
            phase=Phase.UNVERIFIED,
        )

    def _to_log_out_with(self, order: Order, sent: Sent) -> SealedAccess | None:
        """Give the access token of an answer where that is what revokes, for as long as it may be good."""
        token, now = access_token_of(sent.response), self._acquirer.clock.wall()
        if token is None or order.registration.issuer.dialect.logout is not Logout.BEARER:
            return None
        return SealedAccess(
            access_token=token,
            token_type="Bearer",  # noqa: S106 - a type
            scope=(),
            obtained_at=now,
            expires_at=now + order.spec.default_lifetime,
            binding="none",
        )

    async def _give_up(self, order: Order, sent: Sent, held: Grant) -> None:
        """Revoke what was issued: by what revokes the grant for as long as it takes, else the access token, once."""
        if held.refresh_token is not None or held.access is not None:
            return await self._grants.discard(held)
        token, registration = access_token_of(sent.response), order.registration
        if token is None:
            return None
        # Nobody will ever see it, and it ends by itself soon: one try is worth it, and no more.
        with suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(REVOKING):
                server = await registration.metadata.get()
                draft = revocation_draft(server, registration.issuer, registration.client, token)
                if draft is not None:
                    await self._in_turn(
                        registration, lambda: registration.exchange.send(draft, registration.exchange.prepare())
                    )
        return None

    # --- the checks ---

    async def _adopted(self, order: Order, sent: Sent, held: Grant) -> Redeemed:
        registration, clock = order.registration, self._acquirer.clock
        answer = read_token_response(
            sent.response,
            client=registration.client,
            asked_scope=order.spec.scope,
            certificate_thumbprint=registration.exchange.session.thumbprint,
            jkt=order.attempt.transmission.jkt,
            wall_now=clock.wall(),
        )
        details = granted_details(answer, order.pending.asked.authorization_details)
        token = self._acquirer.issued(order.attempt, sent, answer)
        person = await self._person(order, answer)
        subject = await self._subject(order, answer) if person is None else person.subject
        lifetime = order.consent.lifetime
        grant = replace(
            moved(held, registration),
            subject=subject,
            subject_verified=subject is not None,
            auth_time=None if person is None else person.auth_time,
            scope=token.scope,
            authorization_details=details,
            consent_expires_at=None if lifetime is None else held.created_at + lifetime,
            idle_lifetime=answer.refresh_expires_in,
            jkt=token.jkt,
            phase=Phase.SETTLED,
        )
        async with self._adopting:
            old = self._old(order)
            if old is not None:
                grant = renewed(old, grant)
            await self._grants.adopt(grant, token, held=held.id)
        return Redeemed(grant=grant, token=token, renewed=old is not None)

    async def _person(self, order: Order, answer: TokenResponse) -> IdTokenClaims | None:
        """Find out who consented; None where nobody was asked to say (``openid``)."""
        pending, registration, consent = order.pending, order.registration, order.consent
        if not pending.asked.is_openid:
            return None
        if answer.id_token is None:
            raise CheckFailedError(Reason.ID_TOKEN_INVALID, Check.ID_TOKEN, message="the answer has no ID token")
        expected = IdTokenExpected(
            issuer=pending.issuer,
            client_id=pending.client_id,
            alg=registration.client.id_token_signed_response_alg,
            nonce=pending.transaction.nonce,
            access_token=answer.access_token,
            max_age=pending.asked.max_age,
            asked_at=pending.created_at,
            acr_values=pending.asked.acr_values if consent.acr_required else (),
            demanded=demanded_claims(pending.asked.claims),
        )
        person = await verified_id_token(answer.id_token, registration, expected, wall=self._acquirer.clock.wall)
        if consent.userinfo:
            await self._look_up(order, answer, person)
        return person

    async def _look_up(self, order: Order, answer: TokenResponse, person: IdTokenClaims) -> None:
        """See that the access token is that person's (IDT-11)."""
        response = await ask_userinfo(order.registration, answer, self._passage)
        check_userinfo(response, subject=person.subject, wall_now=self._acquirer.clock.wall())

    async def _subject(self, order: Order, answer: TokenResponse) -> str | None:
        """Find out whose the access token is where no ID token tells it; None where nothing does."""
        wall_now = self._acquirer.clock.wall()
        return await subject_by_userinfo(order.registration, answer, self._passage, wall_now=wall_now)

    async def _in_turn(self, registration: Registration, request: Callable[[], Awaitable[T]]) -> T:
        """Make *request* within the limits of the issuer, before those that nobody waits for. Raises RemoteError."""
        async with self._passage.turn(object(), registration, rank=HASTE, still_wanted=lambda: None):
            return await self._passage.guarded(registration, request)

    def _old(self, order: Order) -> Grant | None:
        """Give the grant that this one takes the place of. Raises NoSuchGrantError when it is gone meanwhile."""
        pending = order.pending
        grant_id = pending.renews
        if order.consent.grants is Grants.ONE:
            # Given up, or given for the first time, since this one was begun.
            grant_id = self._grants.one(pending.token)
        if grant_id is None:
            return None
        try:
            return self._grants.grant(grant_id)
        except KeyError:
            raise NoSuchGrantError from None


def renewed(old: Grant, new: Grant) -> Grant:
    """
    Give *new* the place of *old*.

    Raises SubjectMismatchError when it is not the same person's (rules.md R4); where nobody verified who that is,
    when it is not the owner's who has the old one: other workloads ask other people.
    """
    ours = (old.issuer, old.client_id, old.subject, old.subject_verified)
    if (new.issuer, new.client_id, new.subject, new.subject_verified) != ours:
        raise SubjectMismatchError
    if not new.subject_verified and new.owner != old.owner:
        raise SubjectMismatchError
    return replace(new, id=old.id, owner=old.owner, created_at=old.created_at, label=new.label or old.label)
