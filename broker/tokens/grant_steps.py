"""
The table of what becomes of a grant (rules.md R2).

``step`` takes a state, an event, the time and the dice, and gives the next state with the effects to be
carried out. Beside the table in ``state`` there is more to lose here. A refresh token may be good for one
use only, so that a request whose answer is not known must neither be forgotten nor repeated at once; and
only a definite word of the server, said twice, ends a grant. Pure: it never awaits, reads no clock, draws
no chance.

    Resting ---due---> Refreshing ---succeeded---> Resting
       ^                   |
       +-----failed--------+---the server's definite word---> Over ---retried, or consented anew---> Resting
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

from broker.tokens import schedule
from broker.tokens.grant import EndReason, Grant, Phase, Rotation
from broker.tokens.grant_ends import ended_by_terms, opened, why_last
from broker.tokens.grant_state import (
    Begin,
    Consented,
    Disowned,
    Doubt,
    Effect,
    Ended,
    Event,
    Failed,
    Forced,
    Keep,
    Over,
    Quarantined,
    Rebound,
    Refreshing,
    Replay,
    Reprieved,
    Resting,
    Retried,
    State,
    Step,
    Stored,
    Succeeded,
    Terms,
    Tick,
    Trouble,
    Unblocked,
    Wanted,
)
from broker.tokens.schedule import Pace
from broker.tokens.spec import IssuedToken
from broker.tokens.state import UNBLOCKED_WITHIN, Chance, Expired, Failure

CONFIRM_FROM = 1.0
CONFIRM_TO = 3.0
"""Seconds before a refresh token is sent again: after ``invalid_grant``, and in grace mode after a lost answer."""

NEARLY_SPENT = 10.0
"""Seconds before its end when an access token has done its work and an early replay costs least (R2.5, strict)."""

CLIENT_SUSPECT = "client_suspect"
"""The reason of a grant that waits until its client is believed again (R2.7)."""


def replay_of(setting: str, rotation: Rotation) -> Replay:
    """Resolve ``refresh_rotation``: *observe* is strict until the server was seen to keep refresh tokens (R2.5)."""
    if setting == "observe":
        return Replay.NEVER if rotation is Rotation.KEEPS else Replay.STRICT
    return Replay(setting)


def restored(grant: Grant, token: IssuedToken | None, terms: Terms, *, now: float, chance: Chance) -> State:
    """
    Give the state of a grant that was read from the store.

    One whose refresh was under way is in the state that a lost answer leaves (R1): nobody knows how far the
    request got.
    """
    if grant.phase is Phase.ENDED and ended_by_terms(grant, terms):
        grant = opened(grant)
    if grant.phase is Phase.ENDED:
        return Over(grant=grant, token=token if _is_served_after(grant, terms) else None)
    doubt = Doubt.UNKNOWN if grant.phase is Phase.OPEN else Doubt.NONE
    if token is None:
        return Resting(grant=grant, due_at=now + UNBLOCKED_WITHIN * chance.spread, doubt=doubt)
    refresh_at = schedule.refresh_at(token, chance.spread)
    due_at = max(now, _next_refresh(token, refresh_at, terms, chance))
    if doubt is Doubt.UNKNOWN:
        due_at = now + _after_unknown(terms, token, 0, chance, now)
    return Resting(grant=grant, token=token, refresh_at=refresh_at, due_at=due_at, doubt=doubt)


def step(state: State, event: Event, terms: Terms, *, now: float, chance: Chance, next_attempt: int) -> Step:
    """Give the state after *event* and what has to be done; *next_attempt* is the number for a new attempt."""
    state, effects = _expire(state, terms, now)
    match state, event:
        case Resting(due_at=due_at), Tick() if now >= due_at:
            return _begin(state, terms, next_attempt, effects)
        case Resting(), Wanted() if _may_be_hastened(state, now):
            return _begin(state, terms, next_attempt, effects)
        case Resting(), Forced() if _may_be_forced(state, now):
            # What a caller says is refused is of no use to others either: it is stale from now on.
            refused = replace(state, forced_at=now, refresh_at=min(state.refresh_at, now))
            return _begin(refused, terms, next_attempt, effects)
        case _, Unblocked() | Rebound() | Disowned():
            return _with_other_means(state, event, terms, now=now, chance=chance, effects=effects)
        case Refreshing(attempt=running), Stored(attempt=attempt, grant=grant) if attempt == running:
            return replace(state, grant=grant, doubt=Doubt.NONE), effects
        case Refreshing(attempt=running), Succeeded(attempt=attempt) if attempt == running:
            return _succeeded(event, terms, now, chance, effects)
        case Refreshing(attempt=running), Failed(attempt=attempt) if attempt == running:
            after, more = _failed(state, event, terms, now, chance)
            return after, (*effects, *more)
        case _, Consented(grant=grant, token=token):
            return _consented(grant, token, terms, now, chance)
        case Over() | Resting(), Reprieved() | Retried():
            return _revived(state, event, now, effects)
        case _:
            return state, effects


def wake_at(state: State) -> float | None:
    """Say when the state needs the next ``Tick``; None while nothing but an attempt or a person can change it."""
    expires_at = None if state.token is None else state.token.expires_at
    match state:
        case Resting(due_at=due_at):
            return due_at if expires_at is None else min(due_at, expires_at)
        case Refreshing() | Over():
            return expires_at
        case unknown:
            assert_never(unknown)


def is_settled(state: State, now: float) -> bool:
    """Say whether there is a token in hand and ``Tick`` would change nothing now: it may be served as it lies."""
    if state.token is None or now >= state.token.expires_at:
        return False
    return not isinstance(state, Resting) or now < state.due_at


def _expire(state: State, terms: Terms, now: float) -> Step:
    """Drop a token that reached its end; a grant that can bring no other one ends with it (R2.10)."""
    effects: tuple[Effect, ...] = ()
    if state.token is not None and now >= state.token.expires_at:
        state, effects = replace(state, token=None), (Expired(),)
    reason = why_last(state.grant, terms)
    if isinstance(state, Resting) and state.token is None and reason is not None:
        over, more = _end(state.grant, None, reason)
        return over, (*effects, *more)
    return state, effects


def _begin(state: Resting, terms: Terms, attempt: int, effects: tuple[Effect, ...]) -> Step:
    """Start an attempt, unless there is nothing to make it with; from now on a crash leaves a doubt (R1)."""
    if why_last(state.grant, terms) is not None:
        return replace(state, due_at=math.inf), effects
    running = Refreshing(
        grant=replace(state.grant, phase=Phase.OPEN),
        token=state.token,
        refresh_at=state.refresh_at,
        attempt=attempt,
        doubt=state.doubt,
        failure=state.failure,
        forced_at=state.forced_at,
    )
    doubt = state.doubt
    begin = Begin(attempt=attempt, previous=doubt is Doubt.PREVIOUS, confirms=doubt is Doubt.REFUSED)
    return running, (*effects, begin)


def _may_be_hastened(state: Resting, now: float) -> bool:
    """
    Say whether a caller's wish starts an attempt before it is due.

    Never while a failure or a doubt sets the pace: an early replay can end the grant (R2.5).
    """
    if state.failure is not None or state.doubt is not Doubt.NONE:
        return now >= state.due_at
    return state.token is None or now - state.token.obtained_at >= schedule.REFRESH_COOLDOWN


def _may_be_forced(state: Resting, now: float) -> bool:
    """
    Say whether a refusal by the API starts an attempt: also where an operator may have mended something.

    Once in a cooldown, however often callers say so.
    """
    if state.forced_at is not None and now - state.forced_at < schedule.REFRESH_COOLDOWN:
        return False
    if state.doubt is Doubt.NONE and state.failure is not None and state.failure.pace is Pace.SLOW:
        return True
    return _may_be_hastened(state, now)


def _succeeded(event: Succeeded, terms: Terms, now: float, chance: Chance, effects: tuple[Effect, ...]) -> Step:
    token = event.token
    if now >= token.expires_at:  # its answer took longer than it lives
        return Resting(grant=event.grant, due_at=now + schedule.FIRST_BACKOFF), effects
    refresh_at = schedule.refresh_at(token, chance.spread)
    due_at = max(_next_refresh(token, refresh_at, terms, chance), now + schedule.FIRST_BACKOFF)
    return Resting(grant=event.grant, token=token, refresh_at=refresh_at, due_at=due_at), effects


def _revived(state: Over | Resting, event: Reprieved | Retried, now: float, effects: tuple[Effect, ...]) -> Step:
    """Take a verdict, or what might have become one, back; the refresh token was kept for that (R2.8)."""
    lives = replace(state.grant, phase=Phase.SETTLED, reason=None)
    match state, event:
        case Resting(), Reprieved(wait=wait):
            held = Failure(code=CLIENT_SUSPECT, pace=Pace.HELD, retry_after=wait)
            return replace(state, doubt=_innocent(state.doubt), failure=held, due_at=now + wait), effects
        case Over(), Reprieved(wait=wait):
            held = Failure(code=CLIENT_SUSPECT, pace=Pace.HELD, retry_after=wait)
            was_lost = state.grant.reason == EndReason.LOST_ANSWER
            after = Resting(
                grant=replace(lives, phase=Phase.OPEN) if was_lost else lives,
                token=state.token,
                due_at=now + wait,
                doubt=Doubt.UNKNOWN if was_lost else Doubt.NONE,
                failure=held,
            )
            return after, (*effects, Keep())
        case Over(), Retried() if lives.refresh_token is not None:
            return Resting(grant=lives, token=state.token, due_at=now), (*effects, Keep())
        case _:
            return state, effects


def _with_other_means(
    state: State,
    event: Unblocked | Rebound | Disowned,
    terms: Terms,
    *,
    now: float,
    chance: Chance,
    effects: tuple[Effect, ...],
) -> Step:
    """Go on after what a client shows, or is known of it, became another; what a failure or doubt paces stays so."""
    soon = now + UNBLOCKED_WITHIN * chance.spread
    match state, event:
        case _, Disowned():
            return _disowned(state, now, effects)
        case Over(grant=grant), Unblocked() if ended_by_terms(grant, terms):
            return Resting(grant=opened(grant), token=state.token, due_at=soon), (*effects, Keep())
        case Resting(failure=Failure(pace=Pace.SLOW | Pace.HELD)), Unblocked():
            return replace(state, due_at=min(state.due_at, soon)), effects
        case Resting(doubt=Doubt.NONE, failure=None | Failure(pace=Pace.SLOW | Pace.HELD)), Rebound():
            return replace(state, due_at=min(state.due_at, soon), refresh_at=min(state.refresh_at, soon)), effects
        case _:
            return state, effects


def _disowned(state: State, now: float, effects: tuple[Effect, ...]) -> Step:
    """Drop the access token, from the store too; the next one is fetched at once, unless a doubt sets the pace."""
    dropped = replace(state, token=None, grant=replace(state.grant, access=None))
    if isinstance(dropped, Refreshing):
        return dropped, effects  # the end of the attempt is written down
    if isinstance(dropped, Resting) and dropped.doubt is Doubt.NONE:
        dropped = replace(dropped, due_at=min(dropped.due_at, now))
    return dropped, (*effects, Keep())


def _consented(grant: Grant, token: IssuedToken | None, terms: Terms, now: float, chance: Chance) -> Step:
    """Go on with what a person gave; an attempt that ran belongs to what was before, and is not waited for."""
    if token is None:
        return Resting(grant=grant, due_at=now), ()
    refresh_at = schedule.refresh_at(token, chance.spread)
    due_at = max(_next_refresh(token, refresh_at, terms, chance), now + schedule.FIRST_BACKOFF)
    return Resting(grant=grant, token=token, refresh_at=refresh_at, due_at=due_at), ()


def _next_refresh(token: IssuedToken, refresh_at: float, terms: Terms, chance: Chance) -> float:
    """Say when it is refreshed if nobody asks: in time, or often enough that an unused grant does not die (R2.10)."""
    if terms.keepalive is None:
        return refresh_at
    # The last tenth is spread, so that grants that were made together are not refreshed together.
    return token.obtained_at + terms.keepalive * (1.0 - 0.1 * chance.spread)


def _failed(state: Refreshing, event: Failed, terms: Terms, now: float, chance: Chance) -> Step:
    failure = _counted(event.failure, state.failure)
    match event.trouble:
        case Trouble.BEARER_REFUSED | Trouble.SUBJECT_CHANGED:
            return _failed_with_access_token(state, event, failure, now, chance)
        case Trouble.INVALID_GRANT if event.suspect:
            # Not this grant's fault as far as anybody can tell: it is no worse off than if it had not been asked.
            state = replace(state, doubt=_innocent(state.doubt))
            due_at = now + _delay(failure, state.token, now, chance)
            if state.doubt is Doubt.UNKNOWN:
                return _rest(state, failure, due_at), ()
            return _rest(replace(state, grant=_settled(state.grant)), failure, due_at), (Keep(),)
        case Trouble.INVALID_GRANT:
            return _refused(state, failure, terms, now, chance)
        case Trouble.UNKNOWN:
            # Also over an earlier refusal: whatever is said next may be about the answer that was lost.
            due_at = now + _after_unknown(terms, state.token, failure.in_a_row - 1, chance, now)
            return _rest(replace(state, doubt=Doubt.UNKNOWN), failure, due_at), ()
        case Trouble.CHECK_FAILED:
            kept = replace(state.grant, phase=Phase.QUARANTINED, reason=failure.code)
            state = replace(state, grant=kept, doubt=Doubt.NONE)
            due_at = now + _delay(failure, state.token, now, chance)
            return _rest(state, failure, due_at), (Keep(), Quarantined(reason=failure.code))
        case Trouble.NOT_SENT | Trouble.REFUSED:
            due_at = now + _delay(failure, state.token, now, chance)
            if state.doubt is Doubt.UNKNOWN:
                return _rest(state, failure, due_at), ()
            return _rest(replace(state, grant=_settled(state.grant)), failure, due_at), (Keep(),)
        case unknown:
            assert_never(unknown)


def _failed_with_access_token(state: Refreshing, event: Failed, failure: Failure, now: float, chance: Chance) -> Step:
    """Take in what goes wrong where a server wants an access token to refresh, or gives one of somebody else."""
    if event.trouble is Trouble.SUBJECT_CHANGED:
        kept = replace(state.grant, phase=Phase.QUARANTINED, reason=EndReason.SUBJECT_CHANGED)
        if state.token is None or not state.grant.subject_verified:
            return _end(kept, None, EndReason.SUBJECT_CHANGED)
        # What is in hand is still the person's: it is served to its end, and nothing is asked for any more.
        rest = _rest(replace(state, grant=kept, doubt=Doubt.NONE), failure, math.inf)
        return rest, (Keep(), Quarantined(reason=failure.code))
    settled = replace(state, grant=_settled(state.grant), doubt=Doubt.REFUSED)
    if state.token is not None:
        # The server is asked once more when it has ended by our clock, too, and then its word counts.
        wait = min(_delay(failure, state.token, now, chance), max(0.0, state.token.expires_at - now))
        return _rest(settled, failure, now + wait), (Keep(),)
    if state.doubt is Doubt.REFUSED:
        return _end(settled.grant, None, EndReason.ACCESS_TOKEN_ENDED)
    again = now + CONFIRM_FROM + (CONFIRM_TO - CONFIRM_FROM) * chance.dice
    return _rest(settled, failure, again), (Keep(),)


def _refused(state: Refreshing, failure: Failure, terms: Terms, now: float, chance: Chance) -> Step:
    """Take ``invalid_grant`` in: what it means depends on what hung over the grant (R2.6)."""
    settled = _settled(state.grant)
    again = now + CONFIRM_FROM + (CONFIRM_TO - CONFIRM_FROM) * chance.dice
    match state.doubt:
        case Doubt.UNKNOWN:
            return _end(settled, state.token, EndReason.LOST_ANSWER)
        case Doubt.NONE:
            return _rest(replace(state, grant=settled, doubt=Doubt.REFUSED), failure, again), (Keep(),)
        case Doubt.REFUSED if settled.previous_refresh_token is not None:
            return _rest(replace(state, grant=settled, doubt=Doubt.PREVIOUS), failure, again), (Keep(),)
        case Doubt.REFUSED | Doubt.PREVIOUS:
            return _end(settled, state.token if terms.serve_to_expiry else None, EndReason.INVALID_GRANT)
        case unknown:
            assert_never(unknown)


def _innocent(doubt: Doubt) -> Doubt:
    """Give what is left of a doubt when refusals do not count."""
    return Doubt.UNKNOWN if doubt is Doubt.UNKNOWN else Doubt.NONE


def _settled(grant: Grant) -> Grant:
    """Give the grant as it was before an attempt that left no doubt."""
    return replace(grant, phase=Phase.SETTLED if grant.reason is None else Phase.QUARANTINED)


def _end(grant: Grant, token: IssuedToken | None, reason: EndReason) -> Step:
    ended = replace(grant, phase=Phase.ENDED, reason=reason.value)
    return Over(grant=ended, token=token), (Keep(), Ended(reason=reason))


def _is_served_after(grant: Grant, terms: Terms) -> bool:
    return grant.reason == EndReason.LOST_ANSWER or terms.serve_to_expiry


def _rest(state: Refreshing, failure: Failure, due_at: float) -> Resting:
    return Resting(
        grant=state.grant,
        token=state.token,
        refresh_at=state.refresh_at,
        due_at=due_at,
        doubt=state.doubt,
        failure=failure,
        forced_at=state.forced_at,
    )


def _counted(failure: Failure, before: Failure | None) -> Failure:
    """Count failures in a row; what was not tried is none."""
    tried = 0 if failure.pace is Pace.HELD else 1
    return replace(failure, in_a_row=tried + (0 if before is None else before.in_a_row))


def _delay(failure: Failure, token: IssuedToken | None, now: float, chance: Chance) -> float:
    return schedule.retry_delay(
        failures=failure.in_a_row,
        pace=failure.pace,
        retry_after=failure.retry_after,
        remaining=None if token is None else token.expires_at - now,
        dice=chance.dice,
    )


def _after_unknown(terms: Terms, token: IssuedToken | None, failures: int, chance: Chance, now: float) -> float:
    """
    Give the wait after a request whose answer is not known, *failures* of them before it (R2.5).

    Where an early replay does no harm, no wait takes more than a part of what is left of the token in hand.
    """
    left = None if token is None else token.expires_at - now
    soon = schedule.retry_delay(
        failures=failures + 1, pace=Pace.ORDINARY, retry_after=None, remaining=left, dice=chance.dice
    )
    match terms.replay:
        case Replay.NEVER:
            return soon
        case Replay.GRACE:
            return CONFIRM_FROM + (CONFIRM_TO - CONFIRM_FROM) * chance.dice if failures == 0 else soon
        case Replay.STRICT:
            return max(schedule.backoff(failures + 1, chance.dice), (left or 0.0) - NEARLY_SPENT)
        case unknown:
            assert_never(unknown)
