"""
Makes attempts: from the order to make one to the event that it ends in, reported.

Whatever happens in an attempt ends here: a bug in one costs that attempt and nothing else. When to make one
is decided in ``state``; this module must not keep any token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

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
from broker.tokens.reload import as_served
from broker.tokens.schedule import Pace, pace_of
from broker.tokens.spec import IssuedToken

ATTEMPT_DEADLINE = 60.0
"""Seconds: above the sum of all deadlines below it (metadata with its retries, token request)."""

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
        self._acquirer = acquirer
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._settle = settle
        self._unblock = unblock

    def replace(self, registrations: Mapping[str, Registration]) -> None:
        """Make attempts with *registrations* from now on; a suspended client may probe at once."""
        now = self._clock.boot()
        kept = {name: self._breakers.get(name, breakers.Closed()) for name in registrations}
        self._registrations = dict(registrations)
        self._breakers |= {
            name: breakers.Open(probe_at=now) if isinstance(breaker, breakers.Open) else breaker
            for name, breaker in kept.items()
        }

    async def make(self, keeper: Keeper, number: int) -> None:
        """Make attempt *number*; whatever happens in it ends here, as an event for the table."""
        try:
            await self._make(keeper, number)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug in one attempt must not stop the others
            self._bug(error)
            failure = table.Failure(code=Reason.UNEXPECTED, pace=Pace.ORDINARY)
            self._settle(keeper, table.Failed(attempt=number, failure=failure))

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
                token = await self._obtain(attempt)
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

    async def _obtain(self, attempt: Attempt) -> IssuedToken:
        """Get the token, under the client's breaker once its certificate comes into play."""
        draft = await self._acquirer.draft(attempt.spec, attempt.registration)
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
            raise RemoteError(
                Reason.CLIENT_SUSPENDED,
                "requests of this client are held back",
                outcome=Outcome.NOT_SENT,
                hint="see the client_suspended event; its certificate is under suspicion",
                retry_after=wait,
            )
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
