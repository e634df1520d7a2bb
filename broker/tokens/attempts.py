"""
Makes attempts: from the order to make one to the event that it ends in, reported.

Whatever happens in an attempt ends here: a bug in one costs that attempt and nothing else. When to make one
is decided in ``state``; this module must not keep any token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from broker.errors import BrokerError, Outcome, RemoteError, frames_of
from broker.events import (
    ClientResumed,
    ClientSuspended,
    Emit,
    TokenRefreshed,
    TokenRefreshFailed,
    UnexpectedFailure,
)
from broker.oauth.client import Issuer
from broker.oauth.messages import Draft
from broker.oauth.reasons import Reason
from broker.tokens import breaker as breakers
from broker.tokens import state as table
from broker.tokens.acquire import Acquirer, Attempt, Registration
from broker.tokens.keeper import Keeper
from broker.tokens.limiter import HASTE, Limiter, Limits
from broker.tokens.ports import Clock, Randomness
from broker.tokens.reload import as_served
from broker.tokens.schedule import Pace, pace_of
from broker.tokens.spec import IssuedToken

ATTEMPT_DEADLINE = 60.0
"""Seconds: above the sum of all deadlines below it (metadata with its retries, token request); not for waiting."""

MISSING_RANK = 60.0
"""Seconds: a token that is missing goes after those that end within them, and before those that live longer."""

INCIDENT_BYTES = 6
"""48 random bits: enough to find one line in a log."""

Settle = Callable[[Keeper, table.Event], None]
"""Takes the event that an attempt ended in."""


class Attempts:
    """Makes attempts for the keepers of a registry; holds the breaker of each client."""

    def __init__(
        self,
        registrations: Mapping[str, Registration],
        *,
        acquirer: Acquirer,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
        settle: Settle,
        unblock: Callable[[str], None],
    ) -> None:
        """
        Take the *registrations* by the name of the client.

        *settle* gets the end of each attempt, *unblock* the name of a client that is answered again.
        """
        self._registrations = dict(registrations)
        self._breakers: dict[str, breakers.Breaker] = {name: breakers.Closed() for name in registrations}
        self._limiters: dict[str, Limiter] = {}
        self._asked: dict[Keeper, tuple[Limiter, int]] = {}
        self._in_haste: set[Keeper] = set()
        self._acquirer = acquirer
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._settle = settle
        self._unblock = unblock

    def replace(self, registrations: Mapping[str, Registration]) -> None:
        """Make attempts with *registrations* from now on; a suspended client may probe at once."""
        self._registrations = dict(registrations)
        self._breakers |= {name: self._breakers.get(name, breakers.Closed()) for name in registrations}
        self.reconsider()

    def reconsider(self) -> None:
        """Let suspended clients probe at once: what spoke against their certificates may be gone."""
        now = self._clock.boot()
        self._breakers = {
            name: breakers.Open(probe_at=now) if isinstance(breaker, breakers.Open) else breaker
            for name, breaker in self._breakers.items()
        }

    async def make(self, keeper: Keeper, number: int) -> None:
        """Make attempt *number*; whatever happens in it ends here, as an event for the table."""
        try:
            await self._make(keeper, number)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug in one attempt must not stop the others
            self._bug(error)
            failure = table.Failure(code=Reason.UNEXPECTED, pace=Pace.ORDINARY)
            self._settle(keeper, table.Failed(attempt=number, failure=failure))
        finally:
            self._in_haste.discard(keeper)

    async def _make(self, keeper: Keeper, number: int) -> None:
        registration = self._registrations.get(keeper.spec.client)
        if registration is None:
            return  # its configuration went before it began
        attempt = Attempt(
            number=number,
            spec=keeper.spec,
            registration=registration,
            transmission=registration.exchange.prepare(),
            started_at=self._clock.boot(),
        )
        try:
            async with asyncio.timeout(ATTEMPT_DEADLINE):
                draft = await self._acquirer.draft(attempt.spec, attempt.registration)
            drafted_in = self._clock.boot() - attempt.started_at
            async with self._turn(keeper, attempt):
                attempt = replace(attempt, started_at=self._clock.boot() - drafted_in)
                async with asyncio.timeout(max(0.0, ATTEMPT_DEADLINE - drafted_in)):
                    token = await self._obtain(draft, attempt)
        except _OvertakenError:
            return
        except BrokerError as error:
            self._failed(keeper, attempt, error)
        except TimeoutError:
            late = RemoteError(Reason.TIMED_OUT, "the attempt took too long", outcome=Outcome.UNKNOWN)
            self._failed(keeper, attempt, late)
        except Exception as error:  # noqa: BLE001 - a bug is a failure like others: counted, reported, retried
            self._failed(keeper, attempt, self._bug(error))
        else:
            self._settle(keeper, table.Succeeded(attempt=number, token=token))
            if as_served(token, keeper.state):  # not one that a reload overtook
                self._report_success(attempt, token)

    def hasten(self, keeper: Keeper) -> None:
        """Let the attempt that runs for *keeper* come before others: a caller waits for it."""
        if keeper.is_running():
            self._in_haste.add(keeper)
        if keeper in self._asked:
            limiter, number = self._asked[keeper]
            limiter.hasten(number)

    @asynccontextmanager
    async def _turn(self, keeper: Keeper, attempt: Attempt) -> AsyncIterator[None]:
        """
        Hold a turn at the issuer for one request.

        Raises RemoteError, before and after the wait, when the client's breaker holds its requests back, and
        _OvertakenError when nobody waits for the attempt any longer; the turn is then the next one's.
        """
        self._hold_back(attempt.spec.client)
        token = table.token_of(keeper.state)
        rank = self._clock.boot() + MISSING_RANK if token is None else token.expires_at
        limiter = self._limiter(attempt.registration.issuer)

        def asked(number: int) -> None:
            self._asked[keeper] = (limiter, number)

        try:
            async with limiter.turn(attempt.spec.client, HASTE if keeper in self._in_haste else rank, asked) as number:
                self._asked.pop(keeper, None)
                try:
                    _still_awaited(keeper, attempt.number)
                    self._hold_back(attempt.spec.client)
                except (RemoteError, _OvertakenError):
                    limiter.unused(number)
                    raise
                yield
        finally:
            self._asked.pop(keeper, None)

    def _limiter(self, issuer: Issuer) -> Limiter:
        """Give the limiter of *issuer*, with the limits of the configuration in force."""
        limits = Limits(concurrent=issuer.max_concurrent_requests, per_second=issuer.max_requests_per_second)
        limiter = self._limiters.get(issuer.name)
        if limiter is None:
            limiter = self._limiters[issuer.name] = Limiter(limits, time=asyncio.get_running_loop().time)
        limiter.limits = limits
        return limiter

    def _hold_back(self, client: str) -> None:
        """Raise RemoteError while the client's breaker lets nothing through; it is not changed."""
        wait = breakers.admit(self._breakers[client], self._clock.boot())[1]
        if wait is not None:
            raise _suspended(wait)

    async def _obtain(self, draft: Draft, attempt: Attempt) -> IssuedToken:
        """Get the token, under the client's breaker."""
        client = attempt.spec.client
        admitted_at = self._admit(client)
        try:
            token = await self._acquirer.obtain(draft, attempt)
        except RemoteError as error:
            self._take_in(client, error, admitted_at=admitted_at)
            raise
        self._take_in(client, None, admitted_at=admitted_at)
        return token

    def _admit(self, client: str) -> float:
        """Give the time of admission. Raises RemoteError when the client's breaker holds the request back."""
        now = self._clock.boot()
        self._breakers[client], wait = breakers.admit(self._breakers[client], now)
        if wait is not None:
            raise _suspended(wait)
        return now

    def _take_in(self, client: str, error: RemoteError | None, *, admitted_at: float) -> None:
        """Take the end of a request into the client's breaker, and report if it opened or closed."""
        before = self._breakers[client]
        breaker = breakers.after(
            before,
            None if error is None else str(error.code),
            self._clock.boot(),
            admitted_at=admitted_at,
            answered=error is None or error.status is not None,
        )
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
            self._unblock(client)

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
        self._settle(keeper, table.Failed(attempt=attempt.number, failure=failure))
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


class _OvertakenError(Exception):
    """A reload came while the attempt waited for its turn: another one was begun, or the token is gone."""


def _still_awaited(keeper: Keeper, number: int) -> None:
    """Raise _OvertakenError unless *keeper* waits for attempt *number*."""
    match keeper.state:
        case table.Fetching(attempt=running) | table.Refreshing(attempt=running) if running == number:
            return
    raise _OvertakenError


def _suspended(wait: float) -> RemoteError:
    return RemoteError(
        Reason.CLIENT_SUSPENDED,
        "requests of this client are held back",
        outcome=Outcome.NOT_SENT,
        hint="see the client_suspended event; its certificate is under suspicion",
        retry_after=wait,
    )
