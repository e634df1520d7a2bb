"""
All keepers by name, with one heap, one timer and one task group for them.

A task exists only while an attempt runs. It belongs to the group of ``run`` and catches everything at its
boundary, so that a bug in one attempt costs that attempt and nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Mapping
from itertools import count
from typing import NoReturn

from broker.errors import BrokerError, Outcome, RemoteError, frames_of
from broker.events import (
    ClientResumed,
    ClientSuspended,
    Emit,
    TokenRefreshed,
    TokenRefreshFailed,
    UnexpectedFailure,
)
from broker.oauth.reasons import Reason
from broker.tokens import breaker as breakers
from broker.tokens import state as table
from broker.tokens.acquire import Acquirer, Attempt, Registration
from broker.tokens.keeper import Keeper
from broker.tokens.ports import Clock, Randomness
from broker.tokens.schedule import pace_of
from broker.tokens.serving import Serving, TokenStatus
from broker.tokens.spec import IssuedToken, TokenSpec

MAX_ALARM = 5.0
"""Seconds: the loop's timers stand still while the machine sleeps, so none may be relied on for longer."""

ATTEMPT_DEADLINE = 60.0
"""Seconds: above the sum of all deadlines below it (metadata with its retries, token request)."""

INCIDENT_BYTES = 6
"""48 random bits: enough to find one line in a log."""


class Registry:
    """Implements ``ports.TokenSource``."""

    def __init__(
        self,
        specs: Iterable[TokenSpec],
        registrations: Mapping[str, Registration],
        *,
        acquirer: Acquirer,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
    ) -> None:
        """Keep a token for each of *specs*; *registrations* by the name of the client."""
        self._keepers = {spec.name: Keeper(spec, clock=clock, randomness=randomness, emit=emit) for spec in specs}
        self._registrations = dict(registrations)
        self._breakers: dict[str, breakers.Breaker] = {name: breakers.Closed() for name in registrations}
        self._acquirer = acquirer
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._alarms: list[tuple[float, int, str]] = []
        self._order = count()
        self._group: asyncio.TaskGroup | None = None
        self._woken = asyncio.Event()

    def names(self) -> tuple[str, ...]:
        """Give all configured names, in the order of the configuration."""
        return tuple(self._keepers)

    def status(self, name: str) -> TokenStatus:
        """Say how the token *name* stands. Raises KeyError."""
        return self._keepers[name].status()

    def current(self, name: str) -> IssuedToken | None:
        """Give the token in hand for metrics, if it has not ended. Raises KeyError."""
        token = table.token_of(self._keepers[name].state)
        return None if token is None or token.expires_at <= self._clock.boot() else token

    async def get(self, name: str, *, min_valid: float | None, wait: float) -> Serving:
        """Give a token, after a wait if need be: see ``ports.TokenSource``."""
        keeper = self._keepers[name]
        deadline = self._clock.boot() + wait
        self._handle(keeper, table.Tick())
        while (serving := keeper.servable(min_valid)) is None:
            self._handle(keeper, table.Wanted())
            running = keeper.is_running()
            left = deadline - self._clock.boot()
            if left <= 0 or not keeper.may_change_within(left):
                return keeper.last_resort()
            try:
                async with asyncio.timeout(left):
                    await keeper.change()
            except TimeoutError:
                return keeper.last_resort()
            if running and not keeper.is_running() and not isinstance(keeper.state, table.Fresh):
                return keeper.last_resort()  # the attempt it waited for failed: the next one is not its own
        return serving

    async def run(self) -> NoReturn:
        """Keep every token, until cancelled; the attempts that run then are cancelled, too."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for keeper in self._keepers.values():
                    self._handle(keeper, table.Tick())
                while True:
                    await self._sleep()
                    self._ring()
            finally:
                self._group = None
        raise AssertionError("the loop above never ends")

    async def _sleep(self) -> None:
        """Wait for the next alarm, for at most MAX_ALARM, or until somebody sets an earlier one."""
        self._woken.clear()
        due = self._alarms[0][0] - self._clock.boot() if self._alarms else MAX_ALARM
        try:
            async with asyncio.timeout(max(0.0, min(due, MAX_ALARM))):
                await self._woken.wait()
        except TimeoutError:
            return

    def _ring(self) -> None:
        now = self._clock.boot()
        while self._alarms and self._alarms[0][0] <= now:
            _, _, name = heapq.heappop(self._alarms)
            self._handle(self._keepers[name], table.Tick())

    def _handle(self, keeper: Keeper, event: table.Event) -> None:
        """Take an event through the keeper, start the attempt it asks for, set the alarm it needs."""
        if self._group is None:
            return  # not running yet, or stopping: a caller gets what is in hand
        before = keeper.state
        attempt = keeper.handle(event)
        if attempt is not None:
            self._group.create_task(self._attempt(keeper, attempt), name=f"refresh {keeper.spec.name}")
        if keeper.state is not before:
            self._set_alarm(keeper)

    def _set_alarm(self, keeper: Keeper) -> None:
        at = table.wake_at(keeper.state)
        if at is None:
            return
        heapq.heappush(self._alarms, (at, next(self._order), keeper.spec.name))
        if self._alarms[0][0] == at:
            self._woken.set()

    async def _attempt(self, keeper: Keeper, number: int) -> None:
        """Make one attempt; whatever happens in it ends here, as an event for the table."""
        registration = self._registrations[keeper.spec.client]
        attempt = Attempt(
            number=number,
            spec=keeper.spec,
            registration=registration,
            transmission=registration.exchange.prepare(),
            started_at=self._clock.boot(),
        )
        try:
            async with asyncio.timeout(ATTEMPT_DEADLINE):
                token = await self._obtain(attempt)
        except BrokerError as error:
            self._failed(keeper, attempt, error)
        except TimeoutError:
            late = RemoteError(Reason.TIMED_OUT, "the attempt took too long", outcome=Outcome.UNKNOWN)
            self._failed(keeper, attempt, late)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug must not stop the refreshing
            self._failed(keeper, attempt, self._bug(error))
        else:
            self._handle(keeper, table.Succeeded(attempt=number, token=token))
            self._report_success(attempt, token)

    async def _obtain(self, attempt: Attempt) -> IssuedToken:
        """Get the token, under the client's breaker once its certificate comes into play."""
        draft = await self._acquirer.draft(attempt.spec, attempt.registration)
        client = attempt.spec.client
        self._admit(client)
        try:
            token = await self._acquirer.obtain(draft, attempt)
        except RemoteError as error:
            self._settle(client, error, answered=error.status is not None)
            raise
        self._settle(client, None, answered=True)
        return token

    def _admit(self, client: str) -> None:
        """Raise RemoteError when the client's breaker holds the request back."""
        self._breakers[client], wait = breakers.admit(self._breakers[client], self._clock.boot())
        if wait is not None:
            raise RemoteError(
                Reason.CLIENT_SUSPENDED,
                "requests of this client are held back",
                outcome=Outcome.NOT_SENT,
                hint="see the client_suspended event; its certificate is under suspicion",
                retry_after=wait,
            )

    def _settle(self, client: str, error: RemoteError | None, *, answered: bool) -> None:
        """Take the end of a request into the client's breaker, and report if it opened or closed."""
        before = self._breakers[client]
        reason = None if error is None else str(error.code)
        breaker = breakers.after(before, reason, self._clock.boot(), answered=answered)
        self._breakers[client] = breaker
        was_open, is_open = isinstance(before, breakers.Open), isinstance(breaker, breakers.Open)
        if is_open and not was_open and error is not None:
            self._emit(
                ClientSuspended(
                    client=client, reason=str(error.code), hint=error.hint, probe_in=breakers.PROBE_INTERVAL
                )
            )
        if was_open and not is_open:
            self._emit(ClientResumed(client=client))

    def _failed(self, keeper: Keeper, attempt: Attempt, error: BrokerError) -> None:
        remote = error if isinstance(error, RemoteError) else None
        attempt.registration.metadata.doubt()
        failure = table.Failure(
            code=str(error.code),
            pace=pace_of(error),
            server_error=None if remote is None else remote.server_error,
            hint=error.hint,
            retry_after=None if remote is None else remote.retry_after,
        )
        self._handle(keeper, table.Failed(attempt=attempt.number, failure=failure))
        status = keeper.status()
        self._emit(
            TokenRefreshFailed(
                token=keeper.spec.name,
                issuer=attempt.registration.client.issuer,
                client=attempt.registration.client.name,
                reason=failure.code,
                outcome=str(Outcome.NOT_SENT if remote is None else remote.outcome),
                status=None if remote is None else remote.status,
                server_error=failure.server_error,
                hint=failure.hint,
                retry_in=float(status.retry_in or 0),
                serving=status.expires_in is not None,
                duration=self._clock.boot() - attempt.started_at,
                jti=attempt.transmission.jti,
            )
        )

    def _bug(self, error: Exception) -> RemoteError:
        incident = self._randomness.token(INCIDENT_BYTES)
        self._emit(
            UnexpectedFailure(where="refresh", incident=incident, error=type(error).__name__, frames=frames_of(error))
        )
        return RemoteError(Reason.UNEXPECTED, "an unexpected failure", outcome=Outcome.UNKNOWN)

    def _report_success(self, attempt: Attempt, token: IssuedToken) -> None:
        client = attempt.registration.client
        self._emit(
            TokenRefreshed(
                token=attempt.spec.name,
                issuer=client.issuer,
                client=client.name,
                generation=token.generation,
                expires_in=token.lifetime,
                expires_at=token.expires_at_wall,
                binding=token.binding,
                duration=self._clock.boot() - attempt.started_at,
                fingerprint=token.fingerprint,
                jti=token.jti,
            )
        )
