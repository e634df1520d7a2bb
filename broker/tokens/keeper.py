"""
Keeps one token: holds its state, takes events through the table in ``state`` and reports what came of it.

A keeper starts no task and sets no timer; the registry does, when ``handle`` says so. Callers that have to
wait share one future, which every change of state resolves; those that wait for news share another, which
only a change resolves that they can see.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from broker.events import Emit, TokenExpired, TokenLapsed
from broker.tokens import state as table
from broker.tokens.ports import Clock, Randomness
from broker.tokens.reload import Fate, carried
from broker.tokens.schedule import min_valid_of
from broker.tokens.serving import Serving, Standing, TokenState, TokenStatus, TokenUnavailableError, unavailable
from broker.tokens.spec import IssuedToken, Refresh, TokenSpec

MIN_SERVED = 1.0
"""Seconds: ``expires_in`` is floored, and a token with 0 s left is of no use to anybody."""

LAST_MOMENT = 2.0
"""Seconds before a token's end when a caller gets it rather than wait on: time for the answer, and to use it."""


class Keeper:
    """The life of the token of one ``TokenSpec``."""

    def __init__(self, spec: TokenSpec, *, clock: Clock, randomness: Randomness, emit: Emit) -> None:
        self.spec = spec
        self.watchers = 0  # callers that wait for news: as long as there are some, somebody asks
        self.state: table.State = table.at_rest(table.Missing(due_at=clock.boot()), eager=self._is_eager)
        self.attempts = 0
        self.alarms: set[float] = set()
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._spread = randomness.uniform()
        self._changed: asyncio.Future[None] | None = None
        self._news: asyncio.Future[None] | None = None

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
            self._announce(news=self.standing() != stood)
        return begun

    def carry(self, spec: TokenSpec, fate: Fate) -> None:
        """Go on as *spec* of another configuration; no attempt that runs is waited for any longer."""
        self.spec = spec
        self.state = carried(self.state, fate, now=self._clock.boot(), spread=self._spread, eager=self._is_eager)
        self._announce(news=True)

    def wake_at(self) -> float | None:
        """Say when the keeper needs the next ``Tick``, if it does."""
        return table.wake_at(self.state, eager=self._is_eager)

    def servable(self, min_valid: float | None) -> Serving | None:
        """Give the token if it has the validity that a caller needs."""
        token = table.token_of(self.state)
        if token is None:
            return None
        return self._serve(token, max(min_valid_of(token, min_valid), MIN_SERVED))

    def last_resort(self) -> Serving:
        """Give the token however little is left of it. Raises TokenUnavailableError when nothing valid is."""
        token = table.token_of(self.state)
        serving = None if token is None else self._serve(token, MIN_SERVED)
        if serving is None:
            raise self._unavailable()
        return replace(serving, enough=False)

    def has_other_than(self, etag: str | None) -> bool:
        """Say whether there is a good token, and it is not the one of *etag*."""
        serving = self.servable(0.0)
        return serving is not None and serving.token.etag != etag

    def standing(self) -> Standing:
        """Give what callers can see of the token."""
        token = table.token_of(self.state)
        return Standing(etag=None if token is None else token.etag, failing=table.failure_of(self.state) is not None)

    def news(self) -> asyncio.Future[None]:
        """Give what is resolved when the standing changes, or the configuration. Shared: not to be cancelled."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def is_running(self) -> bool:
        """Say whether an attempt is under way."""
        return isinstance(self.state, table.Fetching | table.Refreshing)

    def patience(self, wait: float) -> float:
        """
        Give the seconds for which it is worth waiting, of the *wait* that a caller has; 0 if for none.

        With a token in hand only an attempt under way is waited for, and never so long that the token ends
        meanwhile. Without one, the next attempt is waited for if it comes in time.
        """
        now = self._clock.boot()
        token = table.token_of(self.state)
        if token is not None and token.expires_at - now >= MIN_SERVED:
            return min(wait, token.expires_at - now - LAST_MOMENT) if self.is_running() else 0.0
        at = self.wake_at()
        return wait if self.is_running() or (at is not None and at - now <= wait) else 0.0

    async def change(self) -> None:
        """Wait for the next change of state."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def status(self) -> TokenStatus:
        """Say how the token stands."""
        now = self._clock.boot()
        token = table.token_of(self.state)
        failure = table.failure_of(self.state)
        left = 0.0 if token is None else token.left(boot=now, wall=self._clock.wall())
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

    def _serve(self, token: IssuedToken, needed: float) -> Serving | None:
        now, wall = self._clock.boot(), self._clock.wall()
        left = token.left(boot=now, wall=wall)
        if left < needed:
            return None
        return Serving(
            token=token,
            expires_in=math.floor(left),
            expires_at=math.floor(token.expires_at_by(boot=now, wall=wall)),
            stale=self._is_stale(),
        )

    def _is_stale(self) -> bool:
        match self.state:
            case table.Fresh(refresh_at=refresh_at) | table.Refreshing(refresh_at=refresh_at):
                return self._clock.boot() >= refresh_at
            case table.Stale(refresh_at=refresh_at):
                return self._clock.boot() >= refresh_at
            case table.Missing() | table.Idle() | table.Fetching():
                return False

    def _state_for_callers(self, left: float, failure: table.Failure | None) -> TokenState:
        if left >= MIN_SERVED:
            return TokenState.STALE if self._is_stale() else TokenState.FRESH
        if failure is None and isinstance(self.state, table.Idle):
            return TokenState.IDLE
        return TokenState.PENDING if failure is None else TokenState.UNAVAILABLE

    def _unavailable(self) -> TokenUnavailableError:
        failure = table.failure_of(self.state)
        now = self._clock.boot()
        due_at = self.state.due_at if isinstance(self.state, table.Missing | table.Idle) else now
        return unavailable(failure, retry_in=due_at - now)

    def _announce(self, *, news: bool) -> None:
        changed, self._changed = self._changed, None
        told, self._news = (self._news, None) if news else (None, self._news)
        for future in (changed, told):
            if future is not None and not future.done():
                future.set_result(None)
