"""
Keeps one token: holds its state, takes events through the table in ``state`` and reports what came of it.

A keeper starts no task and sets no timer; the registry does, when ``handle`` says so. What callers see of it
is in ``served``.
"""

from __future__ import annotations

import math

from broker.events import Emit, TokenExpired, TokenLapsed
from broker.tokens import state as table
from broker.tokens.ports import Clock, Randomness
from broker.tokens.reload import Fate, carried
from broker.tokens.served import MIN_SERVED, Served
from broker.tokens.serving import Standing, TokenState, TokenStatus, TokenUnavailableError, unavailable
from broker.tokens.spec import IssuedToken, Refresh, TokenSpec


class Keeper(Served):
    """The life of the token of one ``TokenSpec``."""

    __slots__ = ("_emit", "_randomness", "_spread", "attempts", "spec", "state")

    def __init__(self, spec: TokenSpec, *, clock: Clock, randomness: Randomness, emit: Emit) -> None:
        super().__init__(clock=clock)
        self.spec = spec
        self.state: table.State = table.at_rest(table.Missing(due_at=clock.boot()), eager=self._is_eager)
        self.attempts = 0
        self._randomness = randomness
        self._emit = emit
        self._spread = randomness.uniform()

    def handle(self, event: table.Event) -> int | None:
        """Take *event* through the table; give the number of an attempt that has to be started, or None."""
        chance = table.Chance(spread=self._spread, dice=self._randomness.uniform())
        now = self._clock.boot()
        before, stood = self.state, self.standing()
        self.state, effects = table.step(
            self.state, event, now=now, chance=chance, next_attempt=self.attempts + 1, eager=self._is_eager
        )
        begun: int | None = None
        for effect in effects:
            match effect:
                case table.Begin(attempt=attempt):
                    begun = self.attempts = attempt
                case table.Expired():
                    self._emit(TokenExpired(token=self.spec.name))
                case table.Lapsed():
                    self._emit(TokenLapsed(token=self.spec.name))
        if self.state is not before:
            self.announce(news=self.standing() != stood)
        return begun

    def carry(self, spec: TokenSpec, fate: Fate) -> None:
        """Go on as *spec* of another configuration; no attempt that runs is waited for any longer."""
        self.spec = spec
        self.state = carried(self.state, fate, now=self._clock.boot(), spread=self._spread, eager=self._is_eager)
        self.announce()

    def in_hand(self) -> IssuedToken | None:
        """Give the token, if there is one."""
        return table.token_of(self.state)

    def wake_at(self) -> float | None:
        """Say when the keeper needs the next ``Tick``, if it does."""
        return table.wake_at(self.state, eager=self._is_eager)

    def standing(self) -> Standing:
        """Give what callers can see of the token."""
        token = self.in_hand()
        return Standing(etag=None if token is None else token.etag, failing=table.failure_of(self.state) is not None)

    def is_running(self) -> bool:
        """Say whether an attempt is under way."""
        return isinstance(self.state, table.Fetching | table.Refreshing)

    def is_stale(self) -> bool:
        """Say whether the time of the token to be refreshed has passed."""
        match self.state:
            case table.Fresh(refresh_at=refresh_at) | table.Refreshing(refresh_at=refresh_at):
                return self._clock.boot() >= refresh_at
            case table.Stale(refresh_at=refresh_at):
                return self._clock.boot() >= refresh_at
            case table.Missing() | table.Idle() | table.Fetching():
                return False

    def nothing(self) -> TokenUnavailableError:
        """Make the error for a caller where there is nothing to serve."""
        failure = table.failure_of(self.state)
        now = self._clock.boot()
        due_at = self.state.due_at if isinstance(self.state, table.Missing | table.Idle) else now
        return unavailable(failure, retry_in=due_at - now)

    def status(self) -> TokenStatus:
        """Say how the token stands."""
        now, left = self._clock.boot(), self.left()
        failure = table.failure_of(self.state)
        due_at = self.state.due_at if isinstance(self.state, table.Missing | table.Idle | table.Stale) else None
        return TokenStatus(
            name=self.spec.name,
            state=self._state_for_callers(left, failure),
            required=self.spec.required,
            expires_in=math.floor(left) if left >= MIN_SERVED else None,
            reason=None if failure is None else failure.code,
            hint=None if failure is None else failure.hint,
            retry_in=None if due_at is None or failure is None else max(0, math.ceil(due_at - now)),
        )

    @property
    def _is_eager(self) -> bool:
        return self.spec.refresh is Refresh.EAGER or self.watchers > 0

    def _state_for_callers(self, left: float, failure: table.Failure | None) -> TokenState:
        if left >= MIN_SERVED:
            return TokenState.STALE if self.is_stale() else TokenState.FRESH
        if failure is None and isinstance(self.state, table.Idle):
            return TokenState.IDLE
        return TokenState.PENDING if failure is None else TokenState.UNAVAILABLE
