"""
Makes attempts: from the order to make one to the event that it ends in, reported.

Whatever happens in an attempt ends here: a bug in one costs that attempt and nothing else. When to make one
is decided in ``state``; this module must not keep any token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from broker.errors import BrokerError, Outcome, RemoteError, frames_of
from broker.events import (
    Emit,
    TokenRefreshed,
    TokenRefreshFailed,
    UnexpectedFailure,
)
from broker.oauth.messages import Draft
from broker.oauth.reasons import Reason
from broker.tokens import state as table
from broker.tokens.acquire import Acquirer, Attempt, Registration
from broker.tokens.keeper import Keeper
from broker.tokens.passage import Passage
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
    """Makes attempts for the keepers of a registry."""

    def __init__(
        self,
        registrations: Mapping[str, Registration],
        *,
        acquirer: Acquirer,
        clock: Clock,
        randomness: Randomness,
        emit: Emit,
        settle: Settle,
        passage: Passage,
    ) -> None:
        """
        Take the *registrations* by the name of the client.

        *settle* gets the end of each attempt, *passage* lets its request through.
        """
        self._registrations = dict(registrations)
        self._passage = passage
        self._acquirer = acquirer
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._settle = settle

    def replace(self, registrations: Mapping[str, Registration]) -> None:
        """Make attempts with *registrations* from now on."""
        self._registrations = dict(registrations)

    async def make(self, keeper: Keeper, number: int) -> None:
        """Make attempt *number*; whatever happens in it ends here, as an event for the table."""
        try:
            await self._make(keeper, number)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug in one attempt must not stop the others
            self._bug(error)
            failure = table.Failure(code=Reason.UNEXPECTED, pace=Pace.ORDINARY)
            self._settle(keeper, table.Failed(attempt=number, failure=failure))
        finally:
            self._passage.done((keeper, number))

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
            self._passage.hasten((keeper, keeper.attempts))

    def _turn(self, keeper: Keeper, attempt: Attempt) -> AbstractAsyncContextManager[None]:
        """Hold a turn; it raises _OvertakenError when nobody waits for the attempt any longer."""
        token = table.token_of(keeper.state)
        return self._passage.turn(
            (keeper, attempt.number),
            attempt.registration,
            rank=self._clock.boot() + MISSING_RANK if token is None else token.expires_at,
            still_wanted=lambda: _still_awaited(keeper, attempt.number),
        )

    async def _obtain(self, draft: Draft, attempt: Attempt) -> IssuedToken:
        """Get the token, under the client's breaker."""
        return await self._passage.guarded(attempt.registration, lambda: self._acquirer.obtain(draft, attempt))

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
