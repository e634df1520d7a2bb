"""
Keeps one grant: holds its state, takes events through the table in ``grant_steps`` and says what is to be done.

As ``keeper`` does for tokens without a person. It starts no task, sets no timer and writes nothing down;
``grants`` does, when ``handle`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from broker.events import Emit, GrantEnded, GrantQuarantined, TokenExpired
from broker.oauth.client import Issuer
from broker.oauth.dialect import RefreshAuthentication
from broker.tokens import grant_state as table
from broker.tokens.grant import Grant, GrantStatus
from broker.tokens.grant_steps import replay_of, restored, step, wake_at
from broker.tokens.ports import Clock, Fingerprint, Randomness
from broker.tokens.served import MIN_SERVED, Served
from broker.tokens.serving import (
    ConsentRequiredError,
    Standing,
    TokenState,
    TokenUnavailableError,
    unavailable,
)
from broker.tokens.spec import Consent, IssuedToken, OnGrantLost, Refresh, TokenSpec
from broker.tokens.state import Chance, Expired

ETAG_BYTES = 12
"""96 random bits, as for every token that is served."""


class GrantKeeper(Served):
    """The life of one grant of the token of *spec*."""

    def __init__(
        self,
        spec: TokenSpec,
        issuer: Issuer,
        state: table.State | None = None,
        *,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
    ) -> None:
        """Without *state* the keeper begins with ``restore`` or ``handle(Consented)``."""
        super().__init__(clock=clock)
        self.spec = spec
        self.issuer = issuer
        self.attempts = 0
        self.revoking = False
        self.renewing = False  # a newer consent is being written down: nothing older is, from then on
        self._randomness = randomness
        self._emit = emit
        self._spread = randomness.uniform()
        self._state = state

    @property
    def state(self) -> table.State:
        """The state of the grant."""
        assert self._state is not None, "a keeper has a state before it is used"
        return self._state

    @property
    def grant(self) -> Grant:
        """What is known of the grant."""
        return self.state.grant

    def restore(self, grant: Grant, token: IssuedToken | None) -> None:
        """Go on with a grant from the store."""
        terms = self.terms(grant)
        self._state = restored(grant, token, terms, now=self._clock.boot(), chance=self._chance())

    def handle(self, event: table.Event) -> tuple[table.Begin | None, bool]:
        """Take *event* through the table; gives the attempt to be started, and whether the grant is to be written."""
        before = self.state
        stood = self.standing()
        # What an event brings is known before it is judged: how the server rotates, how long it waits.
        known = event.grant if isinstance(event, table.Stored | table.Succeeded | table.Consented) else before.grant
        self._state, effects = step(
            before,
            event,
            self.terms(known),
            now=self._clock.boot(),
            chance=self._chance(),
            next_attempt=self.attempts + 1,
        )
        begun, keep = self._carry_out(effects)
        if self._state is not before:
            self.announce(news=self.standing() != stood)
        return begun, keep

    def begin_with(self, grant: Grant, token: IssuedToken | None) -> None:
        """Take in what a person consented to, for the first time or anew."""
        self._state = self._state or table.Over(grant=grant)
        self.handle(table.Consented(grant=grant, token=token))

    def revise(self, grant: Grant) -> None:
        """Take in another owner or label of the grant, whatever else is going on."""
        self._state = replace(self.state, grant=grant)

    def terms(self, grant: Grant) -> table.Terms:
        """Give what the configuration says about the grant as it stands."""
        consent = self.spec.consent or Consent()
        keepalive: float | None = None
        if self.spec.refresh is Refresh.ON_DEMAND:
            idle = math.inf if grant.idle_lifetime is None else grant.idle_lifetime / 2.0
            keepalive = min(consent.keepalive, idle)
        return table.Terms(
            replay=replay_of(self.issuer.refresh_rotation, grant.rotation),
            keepalive=keepalive,
            needs_access_token=self.issuer.dialect.refreshes_with_access_token,
            refreshes=self.issuer.dialect.refresh_authentication is not RefreshAuthentication.NONE,
            serve_to_expiry=consent.on_grant_lost is OnGrantLost.SERVE_UNTIL_EXPIRY,
        )

    def in_hand(self) -> IssuedToken | None:
        """Give the access token, if there is one."""
        return self.state.token

    def wake_at(self) -> float | None:
        """
        Say when the keeper needs the next ``Tick``, if it does.

        Whoever waits for news asks all the while, so that a grant on demand is looked at when its token is stale.
        """
        at = wake_at(self.state)
        if self.watchers and isinstance(self.state, table.Resting) and self.state.token is not None:
            stale_at = self.state.refresh_at
            at = stale_at if at is not None and self._clock.boot() < stale_at < at else at
        return None if at is None or math.isinf(at) else at

    def wants_refresh(self) -> bool:
        """Say whether the token in hand is past its refresh time, which on demand only a caller has mended."""
        state = self.state
        return isinstance(state, table.Resting) and state.token is not None and self._clock.boot() >= state.refresh_at

    def standing(self) -> Standing:
        """Give what callers can see of the token."""
        token, state = self.in_hand(), self.state
        failing = isinstance(state, table.Over) or state.failure is not None
        return Standing(etag=None if token is None else token.etag, failing=failing)

    def is_running(self) -> bool:
        """Say whether an attempt is under way."""
        return isinstance(self.state, table.Refreshing)

    def is_stale(self) -> bool:
        """Say whether the time of the token to be refreshed has passed, or it is the last one."""
        state = self.state
        return isinstance(state, table.Over) or self._clock.boot() >= state.refresh_at

    def nothing(self) -> ConsentRequiredError | TokenUnavailableError:
        """Make the error for a caller where there is nothing to serve."""
        state = self.state
        if isinstance(state, table.Over):
            return ConsentRequiredError(state.grant.reason or "unknown")
        due_at = state.due_at if isinstance(state, table.Resting) else self._clock.boot()
        return unavailable(state.failure, retry_in=due_at - self._clock.boot())

    def status(self) -> GrantStatus:
        """Say how the grant stands."""
        now, state, grant, left = self._clock.boot(), self.state, self.grant, self.left()
        failure = None if isinstance(state, table.Over) else state.failure
        due_at = state.due_at if isinstance(state, table.Resting) and failure is not None else None
        consent_left = None if grant.consent_expires_at is None else grant.consent_expires_at - self._clock.wall()
        return GrantStatus(
            id=grant.id,
            token=grant.token,
            owner=grant.owner,
            state=self._state_for_callers(left),
            subject=grant.subject,
            subject_verified=grant.subject_verified,
            label=grant.label,
            scope=grant.scope,
            created_at=grant.created_at,
            expires_in=math.floor(left) if left >= MIN_SERVED else None,
            consent_expires_in=None if consent_left is None else max(0, math.floor(consent_left)),
            reason=grant.reason if failure is None else failure.code,
            hint=None if failure is None else failure.hint,
            retry_in=None if due_at is None or math.isinf(due_at) else max(0, math.ceil(due_at - now)),
        )

    def _chance(self) -> Chance:
        return Chance(spread=self._spread, dice=self._randomness.uniform())

    def _carry_out(self, effects: Sequence[table.Effect]) -> tuple[table.Begin | None, bool]:
        begun: table.Begin | None = None
        keep = False
        for effect in effects:
            match effect:
                case table.Begin():
                    begun, self.attempts = effect, effect.attempt
                case table.Keep():
                    keep = True
                case Expired():
                    self._emit(TokenExpired(token=self.spec.name))
                case table.Ended(reason=reason):
                    self._emit(
                        GrantEnded(
                            token=self.spec.name, grant=self.grant.id, client=self.spec.client, reason=reason.value
                        )
                    )
                case table.Quarantined(reason=code):
                    self._emit(
                        GrantQuarantined(
                            token=self.spec.name, grant=self.grant.id, client=self.spec.client, reason=code
                        )
                    )
        return begun, keep

    def is_idle(self) -> bool:
        """Say whether there is no access token because this grant is refreshed on demand and nobody asks."""
        if self.spec.refresh is not Refresh.ON_DEMAND or self.watchers or self.left() >= MIN_SERVED:
            return False
        return isinstance(self.state, table.Resting) and self.state.failure is None

    def _state_for_callers(self, left: float) -> TokenState:
        state = self.state
        if left >= MIN_SERVED:
            return TokenState.STALE if self.is_stale() else TokenState.FRESH
        if isinstance(state, table.Over):
            return TokenState.CONSENT_REQUIRED
        return TokenState.PENDING if state.failure is None else TokenState.UNAVAILABLE


def unsealed(grant: Grant, *, clock: Clock, randomness: Randomness, fingerprint: Fingerprint) -> IssuedToken | None:
    """
    Give the access token of a stored grant, or None when it has ended.

    One that was issued later than now by the wall clock is taken for ended: nobody knows how long ago that
    was (R2.11).
    """
    boot, wall, access = clock.boot(), clock.wall(), grant.access
    if access is None or access.obtained_at > wall or access.expires_at <= wall:
        return None
    return IssuedToken(
        access_token=access.access_token,
        token_type=access.token_type,
        scope=access.scope,
        issuer=grant.issuer,
        obtained_at=boot - (wall - access.obtained_at),
        expires_at=boot + (access.expires_at - wall),
        expires_at_wall=access.expires_at,
        generation=0,
        etag=randomness.token(ETAG_BYTES),
        fingerprint=fingerprint(access.access_token.reveal()),
        binding=access.binding,
        certificate_thumbprint=access.certificate_thumbprint,
        jkt=access.jkt,
        certificate_not_after=access.certificate_not_after,
    )
