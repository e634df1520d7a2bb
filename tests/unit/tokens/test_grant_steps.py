from __future__ import annotations

import math
from dataclasses import replace

import pytest

from broker.oauth.secret import AccessToken, RefreshToken
from broker.tokens.grant import EndReason, Grant, Phase, Rotation, SealedAccess
from broker.tokens.grant_state import (
    Begin,
    Consented,
    Disowned,
    Doubt,
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
from broker.tokens.grant_steps import NEARLY_SPENT, is_settled, replay_of, restored, step, wake_at
from broker.tokens.schedule import Pace
from broker.tokens.spec import IssuedToken
from broker.tokens.state import Chance, Expired, Failure

NOW = 1000.0
CHANCE = Chance(spread=0.5, dice=0.5)
STRICT, GRACE, NEVER = Terms(replay=Replay.STRICT), Terms(replay=Replay.GRACE), Terms(replay=Replay.NEVER)
FAILURE = Failure(code="timed_out", pace=Pace.ORDINARY)
REFUSED = Failure(code="server_refused", pace=Pace.SLOW, server_error="invalid_grant")
GRANT = Grant(
    id="g",
    token="t",
    owner="app",
    issuer="https://as.example",
    client_id="c",
    created_at=1.0,
    refresh_token=RefreshToken("rt-2"),
)
OPEN = replace(GRANT, phase=Phase.OPEN)


def issued(*, obtained_at: float = NOW - 100, lifetime: float = 1000.0) -> IssuedToken:
    return IssuedToken(
        access_token=AccessToken("at"),
        token_type="Bearer",
        scope=(),
        issuer="https://as.example",
        obtained_at=obtained_at,
        expires_at=obtained_at + lifetime,
        expires_at_wall=0.0,
        generation=1,
        etag="e",
        fingerprint="f",
        binding="none",
        certificate_thumbprint=None,
    )


TOKEN = issued()


def take(state: State, event: Event, terms: Terms = STRICT, *, now: float = NOW) -> Step:
    return step(state, event, terms, now=now, chance=CHANCE, next_attempt=7)


def running(doubt: Doubt = Doubt.NONE, **more: object) -> Refreshing:
    return replace(Refreshing(grant=OPEN, token=TOKEN, refresh_at=NOW, attempt=6, doubt=doubt), **more)  # type: ignore[arg-type]


def failed(trouble: Trouble, failure: Failure = FAILURE, *, suspect: bool = False) -> Failed:
    return Failed(attempt=6, trouble=trouble, failure=failure, suspect=suspect)


def rested(step: Step) -> Resting:
    assert isinstance(step[0], Resting)
    return step[0]


def test_a_due_grant_is_refreshed_and_a_crash_from_then_on_leaves_a_doubt():
    """The intent is in the state before anything is sent (R2.1)."""
    state, effects = take(Resting(grant=GRANT, token=TOKEN, due_at=NOW, refresh_at=NOW), Tick())

    assert state == Refreshing(grant=OPEN, token=TOKEN, refresh_at=NOW, attempt=7)
    assert effects == (Begin(attempt=7),)


@pytest.mark.parametrize("event", [Tick(), Wanted(), Forced(), Unblocked()])
def test_nothing_is_done_before_its_time(event: Event):
    """A token that was just fetched is not fetched again because somebody asks."""
    state = Resting(grant=GRANT, token=issued(obtained_at=NOW - 1), due_at=NOW + 500)

    assert take(state, event) == (state, ())


@pytest.mark.parametrize("event", [Wanted(), Forced()])
def test_a_wish_starts_an_attempt_after_the_cooldown(event: Event):
    """The same cooldown as for tokens that a client gets by itself."""
    assert take(Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500), event)[1] == (Begin(attempt=7),)


@pytest.mark.parametrize("doubt", [Doubt.UNKNOWN, Doubt.REFUSED, Doubt.PREVIOUS])
@pytest.mark.parametrize("event", [Wanted(), Forced(), Tick(), Unblocked()])
def test_no_wish_hastens_a_grant_under_doubt(doubt: Doubt, event: Event):
    """An early replay can end the grant, and callers do not know that (R2.5)."""
    state = Resting(grant=OPEN, token=TOKEN, due_at=NOW + 1, doubt=doubt, failure=FAILURE)

    assert take(state, event) == (state, ())


def test_a_forced_refresh_tries_what_an_operator_may_have_mended():
    """The slow class is tried at once, but not while a doubt hangs over the grant."""
    slow = Failure(code="server_refused", pace=Pace.SLOW, server_error="invalid_client")
    state = Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500, failure=slow)

    assert take(state, Forced())[1] == (Begin(attempt=7),)
    assert take(state, Wanted())[1] == ()
    assert take(replace(state, doubt=Doubt.UNKNOWN), Forced())[1] == ()


def test_a_caller_that_goes_on_forcing_is_heard_once_in_a_cooldown():
    """A loop of theirs must not become a loop of ours; a success begins it anew."""
    slow = Failure(code="server_refused", pace=Pace.SLOW, server_error="invalid_client")
    begun, _ = take(Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500, failure=slow), Forced())
    failing, _ = take(begun, replace(failed(Trouble.REFUSED, slow), attempt=7))

    assert take(failing, Forced(), now=NOW + 59)[1] == ()
    assert take(failing, Forced(), now=NOW + 60)[1] == (Begin(attempt=7),)
    assert isinstance(failing, Resting)
    assert failing.refresh_at <= NOW
    new = issued(obtained_at=NOW)
    assert rested(take(begun, Succeeded(attempt=7, grant=GRANT, token=new))).forced_at is None


def test_what_was_held_back_goes_on_soon_when_it_is_let():
    """Spread, so that not all grants of a client come at one moment."""
    held = Resting(grant=GRANT, due_at=NOW + 500, failure=Failure(code="x", pace=Pace.HELD))

    assert rested(take(held, Unblocked())).due_at == NOW + 1.0


def test_success_settles_everything():
    """Fresh, no failure, no doubt, whatever was before."""
    new = issued(obtained_at=NOW - 1)
    state, effects = take(running(Doubt.UNKNOWN, failure=FAILURE), Succeeded(attempt=6, grant=GRANT, token=new))

    assert state == Resting(grant=GRANT, token=new, refresh_at=NOW - 1 + 750, due_at=NOW - 1 + 750)
    assert effects == ()


def test_an_answer_that_took_longer_than_its_token_lives_brings_no_token():
    """The grant is well; the next attempt does not come at once."""
    late = issued(obtained_at=NOW - 10, lifetime=10.0)

    state = rested(take(running(token=None), Succeeded(attempt=6, grant=GRANT, token=late)))

    assert (state.token, state.due_at) == (None, NOW + 1.0)


def test_on_demand_a_grant_is_refreshed_often_enough_to_live():
    """R2.10: an unused grant does not die; grants that were made together are spread."""
    terms = replace(STRICT, keepalive=86_400.0)

    state = rested(take(running(), Succeeded(attempt=6, grant=GRANT, token=TOKEN), terms))

    assert state.due_at == TOKEN.obtained_at + 86_400.0 * 0.95
    assert state.refresh_at == TOKEN.obtained_at + 750


@pytest.mark.parametrize("event", [Succeeded(attempt=5, grant=GRANT, token=TOKEN), Stored(attempt=5, grant=GRANT)])
def test_an_attempt_that_nobody_waits_for_changes_nothing(event: Event):
    """A slow refresh cannot overwrite newer state."""
    state = running()

    assert take(state, event) == (state, ())
    assert take(state, replace(failed(Trouble.INVALID_GRANT), attempt=5)) == (state, ())


def test_a_refresh_token_that_is_safe_ends_the_doubt():
    """Whatever else is wrong with the answer, the next attempt is made with the new one."""
    new = replace(OPEN, refresh_token=RefreshToken("rt-3"))

    state, _ = take(running(Doubt.UNKNOWN), Stored(attempt=6, grant=new))
    after = rested(take(state, failed(Trouble.CHECK_FAILED, Failure(code="wrong_binding", pace=Pace.ORDINARY))))

    assert after.grant == replace(new, phase=Phase.QUARANTINED, reason="wrong_binding")
    assert after.doubt is Doubt.NONE


def test_a_failed_check_quarantines_and_the_old_token_is_served_on():
    """R2.3: the refresh token stays; what is in hand passed its own checks."""
    state, effects = take(running(), failed(Trouble.CHECK_FAILED))

    assert state.token is TOKEN
    assert effects == (Keep(), Quarantined(reason="timed_out"))


@pytest.mark.parametrize("trouble", [Trouble.NOT_SENT, Trouble.REFUSED])
@pytest.mark.parametrize(("reason", "phase"), [(None, Phase.SETTLED), ("wrong_binding", Phase.QUARANTINED)])
def test_what_was_not_processed_leaves_no_doubt(trouble: Trouble, reason: str | None, phase: Phase):
    """R1: the intent is cleared; the grant is what it was before."""
    state, effects = take(running(grant=replace(OPEN, reason=reason)), failed(trouble))

    assert state.grant == replace(GRANT, phase=phase, reason=reason)
    assert rested((state, effects)).doubt is Doubt.NONE
    assert effects == (Keep(),)


@pytest.mark.parametrize("trouble", [Trouble.NOT_SENT, Trouble.REFUSED])
def test_a_retry_that_was_not_processed_does_not_take_an_older_doubt_away(trouble: Trouble):
    """The request before it may still have been processed."""
    state, effects = take(running(Doubt.UNKNOWN), failed(trouble))

    assert (state.grant.phase, rested((state, effects)).doubt) == (Phase.OPEN, Doubt.UNKNOWN)


@pytest.mark.parametrize(
    ("terms", "waits"),
    [(NEVER, 1.5), (GRACE, 2.0), (STRICT, TOKEN.expires_at - NOW - NEARLY_SPENT)],
    ids=["never", "grace", "strict"],
)
def test_a_lost_answer_is_replayed_as_the_server_bears_it(terms: Terms, waits: float):
    """R2.5: never: ordinary backoff; grace: soon; strict: when the token in hand has done its work."""
    state = rested(take(running(), failed(Trouble.UNKNOWN), terms))

    assert state.due_at == NOW + waits
    assert state.doubt is Doubt.UNKNOWN
    assert state.grant.phase is Phase.OPEN


@pytest.mark.parametrize("terms", [NEVER, GRACE])
def test_where_a_replay_does_no_harm_no_wait_outlasts_the_token_in_hand(terms: Terms):
    """After many lost answers the ordinary wait is up to a minute; a grant may end with its access token."""
    nearly = replace(TOKEN, expires_at=NOW + 12.0)
    state = replace(running(Doubt.UNKNOWN), token=nearly, failure=Failure(code="x", pace=Pace.ORDINARY, in_a_row=9))

    after, _ = step(
        state, failed(Trouble.UNKNOWN), terms, now=NOW, chance=Chance(spread=0.5, dice=0.99), next_attempt=7
    )

    assert isinstance(after, Resting)
    assert after.due_at <= NOW + 6.0


@pytest.mark.parametrize("terms", [NEVER, GRACE, STRICT])
def test_tries_never_run_out(terms: Terms):
    """Neither time nor counts of failures end a grant (R2.6): a two-hour outage is two hours of backoff."""
    state: State = replace(running(), token=None)
    for _ in range(200):
        state = rested(take(state, failed(Trouble.UNKNOWN), terms))
        assert state.due_at - NOW <= 60.0
        state = replace(running(state.doubt), token=None, failure=state.failure)

    assert isinstance(take(state, Succeeded(attempt=6, grant=GRANT, token=TOKEN))[0], Resting)


@pytest.mark.parametrize("terms", [NEVER, GRACE, STRICT])
def test_invalid_grant_after_a_lost_answer_is_definite_and_the_token_is_served_on(terms: Terms):
    """R2.6: the answer that was lost had the successor; the access token in hand is not ended by that."""
    state, effects = take(running(Doubt.UNKNOWN), failed(Trouble.INVALID_GRANT, REFUSED), terms)

    assert state == Over(grant=replace(GRANT, phase=Phase.ENDED, reason="lost_answer"), token=TOKEN)
    assert effects == (Keep(), Ended(reason=EndReason.LOST_ANSWER))


def test_invalid_grant_is_asked_for_twice():
    """Some servers say it when a proof or a certificate is missing; once is no verdict (R2.6)."""
    first, effects = take(running(), failed(Trouble.INVALID_GRANT, REFUSED))
    assert rested((first, effects)).doubt is Doubt.REFUSED
    assert 1.0 <= rested((first, effects)).due_at - NOW <= 3.0
    assert effects == (Keep(),)

    again, _ = take(first, Tick(), now=NOW + 3)
    assert isinstance(again, Refreshing)
    second = take(again, Failed(attempt=7, trouble=Trouble.INVALID_GRANT, failure=REFUSED), now=NOW + 3)

    assert second[0] == Over(grant=replace(GRANT, phase=Phase.ENDED, reason="invalid_grant"))
    assert second[1] == (Keep(), Ended(reason=EndReason.INVALID_GRANT))


def test_the_token_of_an_ended_grant_is_served_where_the_configuration_says_so():
    """``on_grant_lost``: the server may have ended the person's consent, so by default it is not."""
    terms = replace(STRICT, serve_to_expiry=True)

    assert take(running(Doubt.REFUSED), failed(Trouble.INVALID_GRANT, REFUSED), terms)[0].token is TOKEN


def test_the_previous_refresh_token_is_tried_before_the_end():
    """R2.4: a server that lost its newest state knows only the previous one."""
    grant = replace(OPEN, previous_refresh_token=RefreshToken("rt-1"))
    state = rested(take(running(Doubt.REFUSED, grant=grant), failed(Trouble.INVALID_GRANT, REFUSED)))
    assert state.doubt is Doubt.PREVIOUS

    begun = take(state, Tick(), now=state.due_at)
    assert begun[1] == (Begin(attempt=7, previous=True),)

    over = take(begun[0], Failed(attempt=7, trouble=Trouble.INVALID_GRANT, failure=REFUSED))
    assert isinstance(over[0], Over)
    assert over[0].grant.refresh_token == RefreshToken("rt-2")


@pytest.mark.parametrize("doubt", [Doubt.REFUSED, Doubt.PREVIOUS])
def test_a_confirmation_that_was_not_answered_may_have_been_processed(doubt: Doubt):
    """What is said next may be about the answer that was lost: then the access token is served on."""
    state = rested(take(running(doubt), failed(Trouble.UNKNOWN)))

    assert state.doubt is Doubt.UNKNOWN
    assert state.grant.phase is Phase.OPEN


@pytest.mark.parametrize("doubt", list(Doubt))
def test_a_suspect_client_costs_no_grant(doubt: Doubt):
    """R2.7: the fault is the client's or the server's; grants wait."""
    held = Failure(code="client_suspect", pace=Pace.HELD, retry_after=120.0)

    state = rested(take(running(doubt), failed(Trouble.INVALID_GRANT, held, suspect=True)))

    assert state.doubt is (Doubt.UNKNOWN if doubt is Doubt.UNKNOWN else Doubt.NONE)
    assert state.grant.phase is (Phase.OPEN if doubt is Doubt.UNKNOWN else Phase.SETTLED)
    assert state.due_at == NOW + 120.0
    assert state.failure
    assert state.failure.in_a_row == 0


def test_a_verdict_is_taken_back():
    """What was ended in the minute in which the client became suspect lives again, and waits."""
    over = Over(grant=replace(GRANT, phase=Phase.ENDED, reason="invalid_grant"))

    state, effects = take(over, Reprieved(wait=120.0))

    assert state.grant == GRANT
    assert rested((state, effects)).due_at == NOW + 120.0
    assert effects == (Keep(),)
    lost = Over(grant=replace(GRANT, phase=Phase.ENDED, reason="lost_answer"), token=TOKEN)
    assert take(lost, Reprieved(wait=120.0))[0].grant == OPEN
    assert rested(take(lost, Reprieved(wait=120.0))).doubt is Doubt.UNKNOWN


@pytest.mark.parametrize("doubt", list(Doubt))
def test_what_was_refused_once_is_innocent_again_when_the_client_is_suspect(doubt: Doubt):
    """One more refusal, when the client is believed again, is the first one."""
    state = Resting(grant=GRANT, token=TOKEN, due_at=NOW, doubt=doubt, failure=REFUSED)

    after = rested(take(state, Reprieved(wait=120.0)))

    assert after.doubt is (Doubt.UNKNOWN if doubt is Doubt.UNKNOWN else Doubt.NONE)
    assert after.due_at == NOW + 120.0
    assert take(state, Retried())[0] == state


def test_an_operator_can_have_an_ended_grant_tried_again():
    """R2.8: a verdict never deletes the refresh token."""
    over = Over(grant=replace(GRANT, phase=Phase.ENDED, reason="lost_answer"), token=TOKEN)

    state, effects = take(over, Retried())

    assert (state.grant, state.token, rested((state, effects)).due_at) == (GRANT, TOKEN, NOW)
    assert effects == (Keep(),)
    nothing = Over(grant=replace(GRANT, refresh_token=None))
    assert take(nothing, Retried()) == (nothing, ())


@pytest.mark.parametrize("event", [Tick(), Wanted(), Forced(), Unblocked(), failed(Trouble.UNKNOWN)])
def test_nothing_else_brings_an_ended_grant_back(event: Event):
    """The server said so twice: it is not asked for ever."""
    over = Over(grant=replace(GRANT, phase=Phase.ENDED, reason="invalid_grant"))

    assert take(over, event) == (over, ())


@pytest.mark.parametrize(
    "state", [Over(grant=GRANT), running(), Resting(grant=GRANT, due_at=NOW + 9, doubt=Doubt.UNKNOWN)]
)
def test_a_new_consent_replaces_whatever_was(state: State):
    """The same id, another refresh token; what ran is not waited for."""
    new = replace(GRANT, refresh_token=RefreshToken("new"))
    token = issued(obtained_at=NOW)

    after, effects = take(state, Consented(grant=new, token=token))

    assert after == Resting(grant=new, token=token, refresh_at=NOW + 750, due_at=NOW + 750)
    assert effects == ()
    assert take(after, failed(Trouble.INVALID_GRANT, REFUSED)) == (after, ())
    assert take(state, Consented(grant=new, token=None))[0] == Resting(grant=new, due_at=NOW)


@pytest.mark.parametrize(
    "state",
    [
        Resting(grant=GRANT, token=TOKEN, due_at=NOW + 9999),
        running(),
        Over(grant=GRANT, token=TOKEN),
    ],
)
def test_no_state_keeps_a_token_past_its_end(state: State):
    """Whatever the grant is doing."""
    after, effects = take(state, Tick(), now=TOKEN.expires_at)

    assert after.token is None
    assert Expired() in effects


def test_a_grant_without_a_refresh_token_is_served_to_its_end_and_needs_consent_then():
    """R2.10; until then nothing is sent, however often a caller wants it."""
    state: State = Resting(grant=replace(GRANT, refresh_token=None), token=TOKEN, due_at=NOW)
    state, effects = take(state, Tick())
    assert effects == ()
    assert rested((state, effects)).due_at == math.inf
    assert wake_at(state) == TOKEN.expires_at

    after, ended = take(state, Tick(), now=TOKEN.expires_at)

    assert after.grant.reason == "no_refresh_token"
    assert ended == (Expired(), Keep(), Ended(reason=EndReason.NO_REFRESH_TOKEN))


@pytest.mark.parametrize(
    ("state", "at"),
    [
        (Resting(grant=GRANT, due_at=NOW + 5), NOW + 5),
        (Resting(grant=GRANT, token=TOKEN, due_at=NOW + 5), NOW + 5),
        (Resting(grant=GRANT, token=TOKEN, due_at=math.inf), TOKEN.expires_at),
        (running(), TOKEN.expires_at),
        (running(token=None), None),
        (Over(grant=GRANT), None),
        (Over(grant=GRANT, token=TOKEN), TOKEN.expires_at),
    ],
)
def test_each_state_says_when_it_has_to_be_looked_at(state: State, at: float | None):
    """None where only an attempt or a person can change it."""
    assert wake_at(state) == at


@pytest.mark.parametrize(
    ("setting", "rotation", "replay"),
    [
        ("observe", Rotation.UNKNOWN, Replay.STRICT),
        ("observe", Rotation.ROTATES, Replay.STRICT),
        ("observe", Rotation.KEEPS, Replay.NEVER),
        ("never", Rotation.ROTATES, Replay.NEVER),
        ("grace", Rotation.UNKNOWN, Replay.GRACE),
        ("strict", Rotation.KEEPS, Replay.STRICT),
    ],
)
def test_what_the_server_does_is_configured_or_learned(setting: str, rotation: Rotation, replay: Replay):
    """R2.5: strict until something is known."""
    assert replay_of(setting, rotation) is replay


def at_start(grant: Grant, token: IssuedToken | None, terms: Terms = STRICT) -> State:
    return restored(grant, token, terms, now=NOW, chance=CHANCE)


def test_a_restart_spends_nothing():
    """R2.11: a token that is good is served on, and refreshed when its time comes."""
    assert at_start(GRANT, TOKEN) == Resting(grant=GRANT, token=TOKEN, refresh_at=NOW + 650, due_at=NOW + 650)


def test_after_a_crash_with_an_open_intent_the_outcome_is_unknown():
    """R1, and R2.5 for how to go on."""
    strict, without = at_start(OPEN, TOKEN), at_start(OPEN, None)

    assert isinstance(strict, Resting)
    assert strict.doubt is Doubt.UNKNOWN
    assert strict.due_at == TOKEN.expires_at - NEARLY_SPENT
    assert isinstance(without, Resting)
    assert without.doubt is Doubt.UNKNOWN
    assert without.due_at <= NOW + 2.0


def test_an_ended_grant_is_still_ended_after_a_restart():
    """With its token only where it would have been served before."""
    lost = replace(GRANT, phase=Phase.ENDED, reason="lost_answer")
    refused = replace(GRANT, phase=Phase.ENDED, reason="invalid_grant")

    assert at_start(lost, TOKEN) == Over(grant=lost, token=TOKEN)
    assert at_start(refused, TOKEN) == Over(grant=refused)
    assert at_start(refused, TOKEN, replace(STRICT, serve_to_expiry=True)) == Over(grant=refused, token=TOKEN)


SLOW = Failure(code="server_refused", pace=Pace.SLOW, server_error="invalid_client")
HELD = Failure(code="client_suspended", pace=Pace.HELD)


@pytest.mark.parametrize("failure", [None, SLOW, HELD])
def test_a_grant_whose_client_has_another_certificate_is_refreshed_soon(failure: Failure | None):
    """Spread over a moment; what is in hand is stale from then on, and served."""
    state = Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500, refresh_at=NOW + 400, failure=failure)

    after, effects = take(state, Rebound())

    assert after == replace(state, due_at=NOW + 1.0, refresh_at=NOW + 1.0)
    assert effects == ()


@pytest.mark.parametrize(
    "state",
    [
        Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500, failure=FAILURE),
        Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500, doubt=Doubt.UNKNOWN, failure=SLOW),
        running(),
        Over(grant=GRANT),
    ],
)
def test_a_failure_or_a_doubt_goes_on_setting_the_pace(state: State):
    """Another certificate does not make an early replay safe (R2.5)."""
    assert take(state, Rebound()) == (state, ())


def test_a_token_of_a_compromised_certificate_is_gone_from_everywhere():
    """From the store, too; the next one comes at once, unless a doubt sets the pace."""
    access = GRANT.access
    state = Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500)
    doubtful = replace(state, doubt=Doubt.UNKNOWN)

    assert access is None  # of this grant; what is written down has none either, then
    assert take(state, Disowned()) == (replace(state, token=None, due_at=NOW), (Keep(),))
    assert take(doubtful, Disowned()) == (replace(doubtful, token=None), (Keep(),))
    assert take(running(), Disowned()) == (running(token=None), ())
    assert take(Over(grant=GRANT, token=TOKEN), Disowned()) == (Over(grant=GRANT), (Keep(),))


# --- servers that refresh with an access token alone, and such that give a token of somebody else ---

BEARER = Terms(replay=Replay.NEVER, needs_access_token=True)
CHANGED = Failure(code="subject_changed", pace=Pace.ORDINARY)
ANOTHERS = replace(GRANT, phase=Phase.QUARANTINED, reason=EndReason.SUBJECT_CHANGED.value)


@pytest.mark.parametrize("doubt", Doubt)
def test_without_an_access_token_nothing_more_can_be_refreshed_where_that_takes_one(doubt: Doubt):
    """Only a person brings another one; whatever hung over the grant is of no account any more."""
    state = Resting(grant=GRANT, token=TOKEN, due_at=NOW, doubt=doubt)

    before = take(state, Unblocked(), BEARER, now=TOKEN.expires_at - 0.001)
    over, effects = take(state, Tick(), BEARER, now=TOKEN.expires_at)

    assert before == (state, ())
    assert isinstance(over, Over)
    assert (over.token, over.grant.phase, over.grant.reason) == (None, Phase.ENDED, "access_token_ended")
    assert over.grant.refresh_token == GRANT.refresh_token  # R2.8
    assert effects == (Expired(), Keep(), Ended(reason=EndReason.ACCESS_TOKEN_ENDED))


SEALED = replace(
    GRANT,
    access=SealedAccess(
        access_token=AccessToken("at"), token_type="Bearer", scope=(), obtained_at=0.0, expires_at=1.0, binding="none"
    ),
)


def test_a_bearer_token_that_is_refused_is_shown_once_more_when_it_has_ended():
    """The server's word, said twice, ends the grant, and no clock: R2.6."""
    first = rested(take(running(grant=SEALED), failed(Trouble.BEARER_REFUSED), BEARER))
    assert (first.token, first.doubt) == (TOKEN, Doubt.REFUSED)
    assert first.due_at <= TOKEN.expires_at

    begun, effects = take(replace(first, due_at=TOKEN.expires_at), Tick(), BEARER, now=TOKEN.expires_at)
    assert effects == (Expired(), Begin(attempt=7, confirms=True))
    assert isinstance(begun, Refreshing)
    over, effects = take(begun, replace(failed(Trouble.BEARER_REFUSED), attempt=7), BEARER, now=TOKEN.expires_at)

    assert isinstance(over, Over)
    assert effects == (Keep(), Ended(reason=EndReason.ACCESS_TOKEN_ENDED))


def test_a_bearer_token_that_has_ended_is_shown_to_the_server_twice():
    """After a restart nobody knows by which clock it has."""
    lost = restored(SEALED, None, BEARER, now=NOW, chance=CHANCE)
    begun, effects = take(lost, Tick(), BEARER, now=NOW + 100)
    assert effects == (Begin(attempt=7),)

    again = rested(take(begun, replace(failed(Trouble.BEARER_REFUSED), attempt=7), BEARER, now=NOW + 100))

    assert again.doubt is Doubt.REFUSED
    assert 1.0 <= again.due_at - (NOW + 100) <= 3.0


def test_who_nobody_verified_is_not_served_on_when_it_turns_out_to_be_another():
    """What is in hand may be that other's, too."""
    over, _ = take(running(grant=replace(OPEN, subject="alice")), failed(Trouble.SUBJECT_CHANGED, CHANGED))

    assert isinstance(over, Over)
    assert over.token is None


def test_a_grant_that_ended_for_want_of_a_way_goes_on_when_there_is_one():
    """A dialect was mistaken for a while: the refresh token is still there."""
    ended = replace(GRANT, phase=Phase.ENDED, reason="no_refresh_token")
    never = replace(STRICT, refreshes=False)

    assert isinstance(restored(ended, None, never, now=NOW, chance=CHANCE), Over)
    assert isinstance(restored(ended, None, STRICT, now=NOW, chance=CHANCE), Resting)
    assert isinstance(take(Over(grant=ended), Unblocked(), never)[0], Over)
    after, effects = take(Over(grant=ended), Unblocked(), STRICT)
    assert (rested((after, effects)).grant.phase, effects) == (Phase.SETTLED, (Keep(),))
    without = replace(ended, refresh_token=None)
    assert isinstance(take(Over(grant=without), Unblocked(), STRICT)[0], Over)


def test_ahead_of_its_end_such_a_grant_is_refreshed_as_any():
    """That is its only chance, and every one is taken."""
    assert take(Resting(grant=SEALED, token=TOKEN, due_at=NOW), Tick(), BEARER)[1] == (Begin(attempt=7),)
    rest = rested(take(running(grant=SEALED), failed(Trouble.UNKNOWN), BEARER))
    assert rest.due_at < TOKEN.expires_at


def test_an_attempt_under_way_at_the_end_is_waited_for():
    """It may bring the next one; if it does not, that was the end."""
    state, effects = take(running(), Tick(), BEARER, now=TOKEN.expires_at)
    assert isinstance(state, Refreshing)
    assert effects == (Expired(),)

    rest = rested(take(state, failed(Trouble.NOT_SENT), BEARER, now=TOKEN.expires_at))
    over, effects = take(rest, Tick(), BEARER, now=TOKEN.expires_at)

    assert isinstance(over, Over)
    assert effects == (Keep(), Ended(reason=EndReason.ACCESS_TOKEN_ENDED))


def test_a_dropped_access_token_is_the_end_of_such_a_grant():
    """A compromised certificate takes the one thing that it could be refreshed with."""
    dropped = rested(take(Resting(grant=GRANT, token=TOKEN, due_at=NOW + 500), Disowned(), BEARER))

    over, _ = take(dropped, Tick(), BEARER)

    assert isinstance(over, Over)
    assert over.grant.reason == EndReason.ACCESS_TOKEN_ENDED


def test_after_a_restart_without_an_access_token_such_a_grant_has_ended():
    """Its record may be older than the token; with one it goes on."""
    lost = restored(GRANT, None, BEARER, now=NOW, chance=CHANCE)
    kept = restored(SEALED, TOKEN, BEARER, now=NOW, chance=CHANCE)

    assert take(lost, Tick(), BEARER)[1] == (Keep(), Ended(reason=EndReason.ACCESS_TOKEN_ENDED))
    assert take(kept, Wanted(), BEARER)[1] == (Begin(attempt=7),)


def test_to_try_such_a_grant_again_ends_it_again():
    """An operator may ask; there is nothing to ask with."""
    over = Over(grant=replace(GRANT, phase=Phase.ENDED, reason="access_token_ended"), token=None)

    state, _ = take(over, Retried(), BEARER)
    again, effects = take(state, Tick(), BEARER)

    assert isinstance(again, Over)
    assert effects == (Keep(), Ended(reason=EndReason.ACCESS_TOKEN_ENDED))


def test_without_a_refresh_token_that_is_the_reason():
    """Both are true; the one that no access token would have changed is told."""
    state = Resting(grant=replace(GRANT, refresh_token=None), token=TOKEN, due_at=math.inf)

    over, _ = take(state, Tick(), BEARER, now=TOKEN.expires_at)

    assert over.grant.reason == EndReason.NO_REFRESH_TOKEN


@pytest.mark.parametrize("terms", [STRICT, BEARER])
def test_a_token_of_somebody_else_is_dropped_and_the_persons_own_is_served_to_its_end(terms: Terms):
    """The next one would be that other's, too: nothing is asked any more, whoever wants or forces it."""
    state, effects = take(
        running(Doubt.UNKNOWN, grant=replace(OPEN, subject="alice", subject_verified=True)),
        failed(Trouble.SUBJECT_CHANGED, CHANGED),
        terms,
    )

    rest = rested((state, effects))
    assert effects == (Keep(), Quarantined(reason="subject_changed"))
    assert (rest.token, rest.due_at, rest.doubt) == (TOKEN, math.inf, Doubt.NONE)
    assert (rest.grant.phase, rest.grant.reason) == (Phase.QUARANTINED, "subject_changed")
    assert wake_at(rest) == TOKEN.expires_at
    for event in (Tick(), Wanted(), Forced(), Unblocked(), Rebound(), Reprieved(wait=1.0)):
        after, effects = take(rest, event, terms)
        later, more = take(after, Tick(), terms, now=TOKEN.expires_at - 1)
        assert Begin not in {type(effect) for effect in (*effects, *more)}, event
        assert later.token is TOKEN, event
        over, effects = take(later, Tick(), terms, now=TOKEN.expires_at)
        assert effects == (Expired(), Keep(), Ended(reason=EndReason.SUBJECT_CHANGED)), event
        assert isinstance(over, Over)


@pytest.mark.parametrize("terms", [STRICT, BEARER, Terms(replay=Replay.NEVER, keepalive=60.0)])
def test_nothing_is_asked_after_a_restart_either(terms: Terms):
    """The record says why."""
    state = restored(ANOTHERS, TOKEN, terms, now=NOW, chance=CHANCE)

    for now in (NOW, NOW + 500, TOKEN.expires_at - 1):
        for event in (Tick(), Wanted(), Forced(), Unblocked()):
            state, effects = take(state, event, terms, now=now)
            assert effects == ()
            assert state.token is TOKEN
    over, effects = take(state, Tick(), terms, now=TOKEN.expires_at)

    assert effects == (Expired(), Keep(), Ended(reason=EndReason.SUBJECT_CHANGED))
    assert over.grant.reason == EndReason.SUBJECT_CHANGED


def test_where_no_token_of_the_person_is_left_a_changed_subject_is_the_end():
    """Also after a restart that found none."""
    over, effects = take(running(token=None), failed(Trouble.SUBJECT_CHANGED, CHANGED))
    restarted = restored(ANOTHERS, None, STRICT, now=NOW, chance=CHANCE)

    assert isinstance(over, Over)
    assert effects == (Keep(), Ended(reason=EndReason.SUBJECT_CHANGED))
    assert take(restarted, Tick())[1] == (Keep(), Ended(reason=EndReason.SUBJECT_CHANGED))


def test_a_person_ends_a_changed_subject():
    """By consenting anew, or an operator by having it tried again."""
    resting = Resting(grant=ANOTHERS, token=TOKEN, due_at=math.inf)
    over = Over(grant=replace(ANOTHERS, phase=Phase.ENDED), token=None)

    consented = rested(take(resting, Consented(grant=GRANT, token=TOKEN)))
    retried = rested(take(over, Retried()))

    assert consented.due_at < TOKEN.expires_at
    assert take(retried, Tick())[1] == (Begin(attempt=7),)


@pytest.mark.parametrize("terms", [STRICT, GRACE, NEVER])
def test_where_a_refresh_takes_no_access_token_its_end_ends_nothing(terms: Terms):
    """The ordinary case stays as it is."""
    state = Resting(grant=GRANT, token=TOKEN, due_at=NOW)

    assert take(state, Tick(), terms, now=TOKEN.expires_at)[1] == (Expired(), Begin(attempt=7))


SETTLING = {
    "resting": Resting(grant=GRANT, token=issued(), due_at=NOW + 600, refresh_at=NOW + 500),
    "resting without a token": Resting(grant=GRANT, due_at=NOW + 600),
    "refreshing": Refreshing(grant=OPEN, attempt=1, token=issued()),
    "refreshing without a token": Refreshing(grant=OPEN, attempt=1),
    "over": Over(grant=GRANT, token=issued()),
    "over without a token": Over(grant=GRANT),
}


@pytest.mark.parametrize("state", SETTLING.values(), ids=SETTLING)
@pytest.mark.parametrize("now", [NOW, NOW + 599, NOW + 600, NOW + 899, NOW + 900, NOW + 5_000])
def test_what_is_settled_is_not_changed_by_the_time(state: State, now: float):
    """And whatever has a token and is not changed is settled: it may be served without asking the table."""
    after = step(state, Tick(), GRACE, now=now, chance=CHANCE, next_attempt=7)

    assert is_settled(state, now) == (after == (state, ()) and state.token is not None)
