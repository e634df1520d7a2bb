"""
The states of one token and the table of their transitions.

Everything that changes the state of a token lives in this file: ``step`` takes a state, an event, the time
and the dice, and gives the next state with the effects that ``keeper`` has to carry out. Pure: it never
awaits, reads no clock, draws no chance, emits nothing.

    Missing ---due---> Fetching ---succeeded---> Fresh ---due or wanted---> Refreshing ---succeeded---> Fresh
       ^                  |                        |                          |   |
       +-----failed-------+                        +--------expired-----------+   +--failed--> Stale --due--> Refreshing

A caller whose token was rejected forces what is not due yet: at most once in a cooldown.

A token that is kept on demand rests in Idle instead of Missing, where no clock moves it: only a caller does.
Nor is one in hand refreshed by the clock alone. While its attempts are held back, a caller moves it on to
Missing: the next attempt is then planned, because somebody wants it.

    Idle ---asked---> Fetching ---succeeded---> Fresh ---due, and asked---> Refreshing ---succeeded---> Fresh
     ^                   |                        |                             |
     +-----failed--------+                        +--ended: back to Idle        +--failed--> Stale --due, and asked
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.tokens import schedule
from broker.tokens.schedule import Pace
from broker.tokens.spec import IssuedToken

UNBLOCKED_WITHIN = 2.0
"""Seconds over which the tokens of a client are spread that may all be tried again at the same moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    Why the last attempt brought nothing. *code* is a reason; *in_a_row* counts failures since the last success.

    *server_error* is a registered OAuth code or ``unrecognized``; *retry_after* what the server asked for;
    *forced_at* is when a caller last forced an attempt since the last success.
    """

    code: str
    pace: Pace
    in_a_row: int = 1
    server_error: str | None = None
    hint: str | None = None
    retry_after: float | None = None
    forced_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """No token; the next attempt is at *due_at*."""

    due_at: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """No token, and none is fetched before somebody asks; nor, then, before *due_at*."""

    due_at: float
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """No token; *attempt* runs. *forced_at* is when a caller forced it, if one did."""

    attempt: int
    failure: Failure | None = None
    forced_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A token in hand, to be refreshed at *refresh_at*."""

    token: IssuedToken
    refresh_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshing:
    """A token in hand and *attempt* running for the next one. *forced_at* is when a caller forced it, if one did."""

    token: IssuedToken
    refresh_at: float
    attempt: int
    failure: Failure | None = None
    forced_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A token in hand whose refresh failed; the next attempt is at *due_at*."""

    token: IssuedToken
    refresh_at: float
    due_at: float
    failure: Failure


State = Missing | Idle | Fetching | Fresh | Refreshing | Stale


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed, perhaps a lot of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A caller asks, content with any token that is good: for a token on demand this is the tick that counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A caller needs more validity than the token in hand has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forced:
    """A caller needs another token, however good the one in hand looks: it was rejected somewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblocked:
    """What held attempts back is gone: the client is answered again, or a key, certificate or setting is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """*attempt* brought *token*."""

    attempt: int
    token: IssuedToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """*attempt* brought nothing."""

    attempt: int
    failure: Failure


Event = Tick | Asked | Wanted | Forced | Unblocked | Succeeded | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Start *attempt*."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """The token in hand reached its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """The token in hand reached its end, and nobody was asking for another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """*spread* is drawn once for each token name; *dice* anew for each step; both in [0, 1)."""

    spread: float
    dice: float


Effect = Begin | Expired | Lapsed
Step = tuple[State, tuple[Effect, ...]]


def step(state: State, event: Event, *, now: float, chance: Chance, next_attempt: int, eager: bool = True) -> Step:
    """
    Give the state after *event* and what has to be done; *next_attempt* is the number for a new attempt.

    Without *eager* the token is kept on demand.
    """
    state, effects = _expire(state, now, eager=eager)
    due_by_clock = eager or not isinstance(event, Tick)
    match state, event:
        case Missing(due_at=due_at, failure=failure), Tick() | Asked() | Wanted() if now >= due_at:
            return _fetch(failure, next_attempt, effects)
        case Idle(due_at=due_at, failure=failure), Asked() | Wanted():
            planned = Missing(due_at=due_at, failure=failure), effects
            return _fetch(failure, next_attempt, effects) if now >= due_at else planned
        case Fresh(token=token, refresh_at=refresh_at), Tick() | Asked() if due_by_clock and now >= refresh_at:
            return _refresh(token, refresh_at, None, next_attempt, effects)
        case Fresh(token=token, refresh_at=refresh_at), Wanted() if _cooled_down(token, now):
            return _refresh(token, refresh_at, None, next_attempt, effects)
        case Stale(token=token, refresh_at=refresh_at, due_at=due_at, failure=failure), Tick() | Asked() | Wanted() if (
            due_by_clock and now >= due_at
        ):
            return _refresh(token, refresh_at, failure, next_attempt, effects)
        case _, Forced():
            return _force(state, now, next_attempt, effects)
        case Missing() | Idle() | Stale(), Unblocked() if _is_held_back(state.failure):
            return replace(state, due_at=min(state.due_at, now + UNBLOCKED_WITHIN * chance.spread)), effects
        case Fetching(attempt=running) | Refreshing(attempt=running), Succeeded(attempt=attempt, token=token) if (
            attempt == running
        ):
            return _keep(token, now, chance, eager=eager), effects
        case Fetching() | Refreshing(), Failed(attempt=attempt, failure=failure) if attempt == state.attempt:
            return _fail(state, failure, now, chance, eager=eager), effects
        case _:
            return state, effects


def wake_at(state: State, *, eager: bool = True) -> float | None:
    """Say when the state needs the next ``Tick``; None while only an attempt that runs, or a caller, can change it."""
    match state:
        case Missing(due_at=due_at):
            return due_at
        case Idle() | Fetching():
            return None
        case Refreshing(token=token):
            return token.expires_at
        case Fresh(token=token) | Stale(token=token) if not eager:
            return token.expires_at
        case Fresh(token=token, refresh_at=refresh_at):
            return min(refresh_at, token.expires_at)
        case Stale(token=token, due_at=due_at):
            return min(due_at, token.expires_at)


def is_settled(state: State, now: float) -> bool:
    """Say whether there is a token in hand and ``Asked`` would change nothing now: it may be served as it lies."""
    match state:
        case Fresh(token=token, refresh_at=refresh_at):
            return now < refresh_at and now < token.expires_at
        case Refreshing(token=token):
            return now < token.expires_at
        case Stale(token=token, due_at=due_at):
            return now < due_at and now < token.expires_at
        case Missing() | Idle() | Fetching():
            return False


def token_of(state: State) -> IssuedToken | None:
    """Give the token in hand. It may have ended a moment ago: whoever serves it looks at the clock."""
    match state:
        case Fresh(token=token) | Refreshing(token=token) | Stale(token=token):
            return token
        case Missing() | Idle() | Fetching():
            return None


def failure_of(state: State) -> Failure | None:
    """Give the failure that has not been followed by a success yet."""
    return None if isinstance(state, Fresh) else state.failure


def at_rest(state: State, *, eager: bool) -> State:
    """Give the state in which a token without an attempt rests, after *eager* has changed."""
    match state:
        case Missing(due_at=due_at, failure=failure) | Idle(due_at=due_at, failure=failure):
            return _without(due_at, failure, eager=eager)
        case _:
            return state


def _without(due_at: float, failure: Failure | None, *, eager: bool) -> State:
    """Give the state without a token: the next attempt is planned, or waits for somebody who asks."""
    return Missing(due_at=due_at, failure=failure) if eager else Idle(due_at=due_at, failure=failure)


def _is_held_back(failure: Failure | None) -> bool:
    """Say whether it may be the reason for the last failure that is gone now; a busy server's wait is kept."""
    if failure is None:
        return False
    return failure.pace in {Pace.SLOW, Pace.HELD} or failure.code in schedule.DATED


def _expire(state: State, now: float, *, eager: bool) -> Step:
    """Drop a token that reached its end, before anything else is looked at."""
    token = token_of(state)
    if token is None or now < token.expires_at:
        return state, ()
    match state:
        case Refreshing(attempt=attempt, failure=failure, forced_at=forced_at):
            return Fetching(attempt=attempt, failure=failure, forced_at=forced_at), (Expired(),)
        case Stale(due_at=due_at, failure=failure):
            return _without(due_at, failure, eager=eager), (Expired() if eager else Lapsed(),)
        case _:
            due_at = max(now, token.obtained_at + schedule.FIRST_BACKOFF)
            return _without(due_at, None, eager=eager), (Expired() if eager else Lapsed(),)


def _cooled_down(token: IssuedToken, now: float) -> bool:
    return now - token.obtained_at >= schedule.REFRESH_COOLDOWN


def _force(state: State, now: float, attempt: int, effects: tuple[Effect, ...]) -> Step:
    """
    Begin an attempt that a caller asks for whatever is in hand; one that runs already is shared.

    It shortens no backoff but that of an error which somebody has to mend: perhaps somebody just did. Then,
    too, one comes in a cooldown at most, and none before the server wants it. The token in hand is past its
    time from then on.
    """
    match state:
        case Missing() | Idle() if now >= state.due_at or _may_be_mended(state.failure, now):
            return Fetching(attempt=attempt, failure=state.failure, forced_at=now), (*effects, Begin(attempt=attempt))
        case Idle(due_at=due_at, failure=failure):
            return Missing(due_at=due_at, failure=failure), effects
        case Fresh() if _cooled_down(state.token, now):
            failure = None
        case Stale() if now >= state.due_at or (_cooled_down(state.token, now) and _may_be_mended(state.failure, now)):
            failure = state.failure
        case _:
            return state, effects
    at = min(state.refresh_at, now)
    forced = Refreshing(token=state.token, refresh_at=at, attempt=attempt, failure=failure, forced_at=now)
    return forced, (*effects, Begin(attempt=attempt))


def _may_be_mended(failure: Failure | None, now: float) -> bool:
    """Say whether a caller may have an error tried again ahead of its time."""
    if failure is None or failure.pace is not Pace.SLOW or failure.retry_after is not None:
        return False
    return failure.forced_at is None or now - failure.forced_at >= schedule.REFRESH_COOLDOWN


def _fetch(failure: Failure | None, attempt: int, effects: tuple[Effect, ...]) -> Step:
    return Fetching(attempt=attempt, failure=failure), (*effects, Begin(attempt=attempt))


def _refresh(
    token: IssuedToken, refresh_at: float, failure: Failure | None, attempt: int, effects: tuple[Effect, ...]
) -> Step:
    refreshing = Refreshing(token=token, refresh_at=refresh_at, attempt=attempt, failure=failure)
    return refreshing, (*effects, Begin(attempt=attempt))


def _keep(token: IssuedToken, now: float, chance: Chance, *, eager: bool) -> State:
    """Take a new token into use, unless its answer took longer than the token lives."""
    if now >= token.expires_at:
        return _without(now + schedule.FIRST_BACKOFF, None, eager=eager)
    # However short its life: no loop of successes is tight either.
    refresh_at = max(schedule.refresh_at(token, chance.spread), now + schedule.FIRST_BACKOFF)
    return Fresh(token=token, refresh_at=refresh_at)


def _fail(state: Fetching | Refreshing, failure: Failure, now: float, chance: Chance, *, eager: bool) -> State:
    """Plan the next attempt; a token in hand stays."""
    failure = _counted(failure, state.failure, state.forced_at)
    if isinstance(state, Fetching):
        return _without(now + _delay(failure, None, chance), failure, eager=eager)
    due_at = now + _delay(failure, state.token.expires_at - now, chance)
    return Stale(token=state.token, refresh_at=state.refresh_at, due_at=due_at, failure=failure)


def _counted(failure: Failure, before: Failure | None, forced_at: float | None) -> Failure:
    """Count failures in a row, and remember when one was forced; what was not tried is no failure."""
    if forced_at is None and before is not None:
        forced_at = before.forced_at
    tried = 0 if failure.pace is Pace.HELD else 1
    return replace(failure, in_a_row=tried + (0 if before is None else before.in_a_row), forced_at=forced_at)


def _delay(failure: Failure, remaining: float | None, chance: Chance) -> float:
    return schedule.retry_delay(
        failures=failure.in_a_row,
        pace=failure.pace,
        retry_after=failure.retry_after,
        remaining=remaining,
        dice=chance.dice,
    )
