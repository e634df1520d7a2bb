"""
One attempt to refresh one grant: the order of steps on which no grant is lost (rules.md R1, R2.1 to R2.3).

The turn at the issuer, the intent durable, the request, the new refresh token durable, and only then the
checks. Whatever happens ends in an event for the table; when to make an attempt and what its end means is
decided in ``grant_steps``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from broker.errors import BrokerError, LocalError, Outcome, RemoteError
from broker.oauth.capabilities import check_capabilities
from broker.oauth.checks import CheckFailedError
from broker.oauth.client import ClientAuthMethod
from broker.oauth.grants import refresh_draft
from broker.oauth.id_token import IdTokenClaims, IdTokenExpected, read_id_token
from broker.oauth.messages import Draft
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, IdToken
from broker.oauth.token_response import TokenResponse, read_token_response, refresh_token_of
from broker.tokens.acquire import Acquirer, Attempt, Registration
from broker.tokens.exchange import Sent
from broker.tokens.grant import Grant, Phase, sealed_access_token, with_access
from broker.tokens.grant_state import Event, Failed, Replay, Stored, Succeeded, Trouble
from broker.tokens.handover import moved
from broker.tokens.passage import Passage
from broker.tokens.schedule import Pace, pace_of
from broker.tokens.spec import Consent, OnSubjectChange, TokenSpec
from broker.tokens.state import Failure
from broker.tokens.userinfo import check_subject
from broker.tokens.vault import Vault
from broker.tokens.verifying import with_keys

ATTEMPT_DEADLINE = 60.0
"""Seconds for what comes before the turn; the request has a deadline of its own, and writing down has none."""

INVALID_GRANT = "invalid_grant"
"""RFC 6749 section 5.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    An attempt to be made.

    *grant* is as the table left it, in the phase ``open``; *previous*: with the previous refresh token; *confirms*:
    the server said ``invalid_grant`` once; *rank* as in ``Passage``. *on_trial*: with a certificate or key that nobody
    knows the server to take.
    """

    number: int
    grant: Grant
    spec: TokenSpec
    registration: Registration
    replay: Replay
    previous: bool = False
    confirms: bool = False
    rank: float = 0.0
    on_trial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an attempt ended: the *event* for the table, the *error* if it failed, and what it is known by."""

    event: Succeeded | Failed
    error: BrokerError | None
    jti: str | None
    duration: float


class OvertakenError(Exception):
    """Nobody waits for the attempt any longer: a reload, a new consent or a revocation came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresher:
    """Makes attempts for every grant; it has no state."""

    acquirer: Acquirer
    vault: Vault
    passage: Passage

    async def make(
        self,
        order: Order,
        *,
        still_wanted: Callable[[], None],
        settle: Callable[[Event], None],
        revise: Callable[[Grant], Grant | None],
    ) -> Ending:
        """
        Make the attempt; *settle* hears of a refresh token that is safe before the rest is known.

        *still_wanted* raises OvertakenError, and so does this then, with nothing sent. *revise* gives what may
        be written down of a grant, in the light of what happened to it since, or None.
        """
        clock = self.acquirer.clock
        attempt = Attempt(
            number=order.number,
            # What an answer does not say about the scope means: as it was (RT-05).
            spec=_within(order.spec, order.grant.scope),
            registration=order.registration,
            transmission=order.registration.exchange.prepare(_dpop_key(order)),
            started_at=clock.boot(),
        )
        event, error = await _Run(self, order, attempt, settle, revise).go(still_wanted)
        return Ending(
            event=event, error=error, jti=attempt.transmission.jti, duration=clock.boot() - attempt.started_at
        )


class _Run:
    """One attempt."""

    def __init__(
        self,
        means: Refresher,
        order: Order,
        attempt: Attempt,
        settle: Callable[[Event], None],
        revise: Callable[[Grant], Grant | None],
    ) -> None:
        self._acquirer = means.acquirer
        self._vault = means.vault
        self._passage = means.passage
        self._order = order
        self._attempt = attempt
        self._settle = settle
        self._revise = revise
        self._stored: Grant | None = None

    async def go(self, still_wanted: Callable[[], None]) -> tuple[Succeeded | Failed, BrokerError | None]:
        order = self._order
        try:
            async with asyncio.timeout(ATTEMPT_DEADLINE):
                await _see_to_dpop_key(order)
                draft = await self._draft()
            turn = self._passage.turn(
                (order.grant.id, order.number),
                order.registration,
                rank=order.rank,
                still_wanted=still_wanted,
            )
            async with turn:
                await self._intend(still_wanted)
                sent = await self._pass(draft)
            await self._store_refresh_token(sent)
            return await self._finish(sent), None
        except TimeoutError:
            late = RemoteError(Reason.TIMED_OUT, "the attempt took too long", outcome=Outcome.NOT_SENT)
            return self._failed(late), late
        except BrokerError as error:
            return self._failed(error), error

    async def _draft(self) -> Draft:
        registration, grant, spec = self._order.registration, self._order.grant, self._order.spec
        server = await registration.metadata.get()
        check_capabilities(server, registration.client, registration.issuer, grant_type="refresh_token")
        token = grant.previous_refresh_token if self._order.previous else grant.refresh_token
        if token is None:
            raise LocalError("grant_without_refresh_token", "the grant has no refresh token")
        return refresh_draft(
            server,
            registration.issuer,
            registration.client,
            refresh_token=token,
            access_token=sealed_access_token(grant),
            scope=grant.scope,
            resource=spec.resource,
        )

    async def _intend(self, still_wanted: Callable[[], None]) -> None:
        """Make the intent durable; a server that never rotates can be asked without a store (R2.1)."""
        if self._order.replay is not Replay.NEVER and self._vault.is_doubtful(self._order.grant.id):
            raise LocalError(
                Reason.STORE_ROLLED_BACK,
                "the store is an older copy, and its refresh token may have been used",
                hint="restore the newest copy, or stop the broker and use token-broker store accept",
            )
        try:
            await self._vault.prove_writable()
            still_wanted()  # whatever was written meanwhile is newer than this intent
            await self._vault.intend(self._order.grant)
        except LocalError:
            if self._order.replay is not Replay.NEVER:
                raise

    async def _pass(self, draft: Draft) -> Sent:
        """Send under the breaker of the client, which hears nothing of trials: they speak against no client."""
        if self._order.on_trial:
            return await self._send(draft)
        return await self._passage.guarded(self._order.registration, lambda: self._send(draft))

    async def _send(self, draft: Draft) -> Sent:
        return await self._order.registration.exchange.send(draft, self._attempt.transmission)

    async def _store_refresh_token(self, sent: Sent) -> None:
        """Make what the server issued durable before anything else is looked at (R2.2)."""
        new = refresh_token_of(sent.response)
        if new is None:
            return
        stored = replace(self._order.grant.with_refresh_token(new), phase=Phase.SETTLED, reason=None)
        self._stored = revised = self._revise(stored) or stored
        # In memory first: whoever writes the grant down from now on writes this refresh token.
        self._settle(Stored(attempt=self._order.number, grant=replace(revised, phase=Phase.OPEN)))
        await self._keep(stored)

    async def _keep(self, grant: Grant) -> Grant:
        """Write *grant* down, as far as nothing newer has taken its place; gives what was written, or would be."""
        revised = self._revise(grant)
        if revised is None:
            return grant
        await self._vault.keep(revised)
        return revised

    async def _bury(self, grant: Grant) -> None:
        """Write *grant* down if it was given up meanwhile: a server may take nothing but its access token (R2.12)."""
        revised = self._revise(grant)
        if revised is not None and revised.phase is Phase.REVOKING:
            await self._vault.keep(revised)

    async def _finish(self, sent: Sent) -> Succeeded:
        registration, acquirer = self._order.registration, self._acquirer
        answer = read_token_response(
            sent.response,
            client=registration.client,
            asked_scope=self._order.grant.asked_scope or self._order.spec.scope,
            certificate_thumbprint=registration.exchange.session.thumbprint,
            jkt=self._attempt.transmission.jkt,
            wall_now=acquirer.clock.wall(),
        )
        if answer.id_token is not None and registration.keys is not None:
            await self._check_person(answer.id_token, answer.access_token)
        token = acquirer.issued(self._attempt, sent, answer)
        grant = self._stored or self._order.grant.with_refresh_token(None)
        grant = replace(
            with_access(grant, token, wall=acquirer.clock.wall(), boot=acquirer.clock.boot()),
            phase=Phase.SETTLED,
            reason=None,
            scope=token.scope,
            subject_verified=grant.subject_verified and not self._is_anybodys(),
            idle_lifetime=answer.refresh_expires_in or grant.idle_lifetime,
            jkt=token.jkt,
        )
        grant = moved(grant, registration)
        try:
            await self._check_subject(answer)
        except BrokerError:
            await self._bury(grant)
            raise
        written = await self._keep(grant)
        return Succeeded(attempt=self._order.number, grant=written, token=token)

    async def _check_person(self, id_token: IdToken, access_token: AccessToken) -> None:
        """See that a refresh is about the same person (RT-06)."""
        registration = self._order.registration
        expected = IdTokenExpected(
            issuer=registration.issuer.issuer,
            client_id=registration.client.client_id,
            alg=registration.client.id_token_signed_response_alg,
            access_token=access_token,
            subject=self._order.grant.subject if self._order.grant.subject_verified else None,
            auth_time=self._order.grant.auth_time,
        )
        await verified_id_token(id_token, registration, expected, wall=self._acquirer.clock.wall)

    def _is_anybodys(self) -> bool:
        """Say whether the new token may be anybody's: the dialect would look its owner up, and nobody wants to know."""
        consent = self._order.spec.consent or Consent()
        dialect = self._order.registration.issuer.dialect
        return dialect.identifies and consent.on_subject_change is OnSubjectChange.SERVE

    async def _check_subject(self, answer: TokenResponse) -> None:
        """See the same where a dialect tells it by userinfo. Raises as ``check_subject``."""
        order, consent = self._order, self._order.spec.consent or Consent()
        if order.grant.subject is None or consent.on_subject_change is OnSubjectChange.SERVE:
            return
        wall_now = self._acquirer.clock.wall()
        await check_subject(order.registration, answer, self._passage, subject=order.grant.subject, wall_now=wall_now)

    def _failed(self, error: BrokerError) -> Failed:
        remote = error if isinstance(error, RemoteError) else None
        bearer = self._order.registration.issuer.dialect.refreshes_with_access_token
        trouble = trouble_of(error, stored=self._stored is not None, bearer=bearer)
        self._order.registration.metadata.doubt()
        # A store that cannot be written mends itself, and where the key was dropped meanwhile there is another one:
        # it is not an operator alone who can help.
        exchange = self._order.registration.exchange
        mends_itself = error.code == "store_unavailable" or not exchange.holds(exchange.jkt)
        failure = Failure(
            code=str(error.code),
            pace=Pace.ORDINARY if mends_itself else pace_of(error),
            server_error=None if remote is None else remote.server_error,
            hint=error.hint,
            retry_after=None if remote is None else remote.retry_after,
        )
        return Failed(attempt=self._order.number, trouble=trouble, failure=failure)


def _within(spec: TokenSpec, scope: tuple[str, ...]) -> TokenSpec:
    """Give *spec* with the *scope* that a grant has, if it has one."""
    return replace(spec, scope=scope) if scope and scope != spec.scope else spec


def _dpop_key(order: Order) -> str | None:
    """
    Give the thumbprint of the DPoP key to refresh with, None for the one that tokens are asked for with now.

    The refresh token of a public client is bound to the key that it was given for (RFC 9449 section 5). That of
    another client is not; but a server that thinks so shall have the key it knows before its word counts (R2.6).
    """
    exchange, jkt = order.registration.exchange, order.grant.jkt
    is_known = exchange.proofs is not None and exchange.proofs.knows(jkt)
    return jkt if is_known and _needs_its_key(order) else None


async def _see_to_dpop_key(order: Order) -> None:
    """
    Let nothing be asked that only a key that is gone could be asked with, nor be bound to one that may go.

    A server refuses the wrong key, or none, with the very ``invalid_grant`` that ends a grant: the refusal would be
    about the key. So nothing is sent, and the grant waits for the key, or for a person. Raises LocalError
    ``dpop_key_unknown``; for a public client ``dpop_key_unreadable`` and ``store_unavailable``, too.
    """
    exchange, jkt = order.registration.exchange, order.grant.jkt
    if jkt is not None and _needs_its_key(order) and not exchange.holds(jkt):
        raise LocalError(
            Reason.DPOP_KEY_UNKNOWN,
            "the DPoP key that the grant is bound to is gone",
            hint="bring back the key, or the sender_constraint, that was there before, or begin the consent anew",
        )
    if exchange.proofs is not None and _is_public(order):
        await exchange.proofs.secure()


def _needs_its_key(order: Order) -> bool:
    """Say whether the grant can only be asked for with the key that it was given for, or is to end by the answer."""
    return _is_public(order) or order.confirms or order.previous


def _is_public(order: Order) -> bool:
    """Say whether the client authenticates by nothing, so that its refresh tokens are bound to its DPoP key."""
    return order.registration.client.client_auth_method is ClientAuthMethod.NONE


def trouble_of(error: BrokerError, *, stored: bool, bearer: bool = False) -> Trouble:
    """
    Say what a failure means to the grant; *stored*: the answer had a refresh token, which is safe (R2.3).

    *bearer*: it was asked with an access token, which 401 is about.
    """
    if error.code == Reason.SUBJECT_CHANGED:
        return Trouble.SUBJECT_CHANGED
    if stored or isinstance(error, CheckFailedError):
        return Trouble.CHECK_FAILED
    if not isinstance(error, RemoteError):
        return Trouble.NOT_SENT
    about_the_refresh = error.outcome is not Outcome.ANSWERED
    if bearer and about_the_refresh and error.status == 401 and error.server_error != INVALID_GRANT:
        return Trouble.BEARER_REFUSED
    match error.outcome:
        case Outcome.NOT_SENT:
            return Trouble.NOT_SENT
        case Outcome.REFUSED:
            return Trouble.INVALID_GRANT if error.server_error == INVALID_GRANT else Trouble.REFUSED
        case Outcome.ANSWERED:
            return Trouble.CHECK_FAILED
        case _:
            return Trouble.UNKNOWN


async def verified_id_token(
    id_token: IdToken, registration: Registration, expected: IdTokenExpected, *, wall: Callable[[], float]
) -> IdTokenClaims:
    """
    Check an ID token with the issuer's keys.

    Raises RemoteError: CheckFailedError, or ``keys_unavailable``.
    """
    return await with_keys(registration, lambda keys: read_id_token(id_token, keys, expected, wall_now=wall()))
