from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.tokens import state as table
from broker.tokens.schedule import Pace
from broker.tokens.state import (
    Asked,
    Begin,
    Chance,
    Effect,
    Expired,
    Failed,
    Failure,
    Fetching,
    Forced,
    Fresh,
    Idle,
    Lapsed,
    Missing,
    Refreshing,
    Stale,
    State,
    Succeeded,
    Tick,
    Unblocked,
    Wanted,
)
from tests.unit.tokens.tokens import issued

CHANCE = Chance(spread=0.0, dice=0.0)
FAILURE = Failure(code="connect_failed", pace=Pace.ORDINARY)
TOKEN = issued(at=1_000.0, lifetime=300.0)  # refreshed at 1210, ends at 1300
NEXT = issued(at=1_210.0, lifetime=300.0, generation=2)


def step(state: State, event: table.Event, now: float) -> tuple[State, tuple[Effect, ...]]:
    return table.step(state, event, now=now, chance=CHANCE, next_attempt=7)


FRESH = Fresh(token=TOKEN, refresh_at=1_210.0)
REFRESHING = Refreshing(token=TOKEN, refresh_at=1_210.0, attempt=6)
STALE = Stale(token=TOKEN, refresh_at=1_210.0, due_at=1_220.0, failure=FAILURE)


@pytest.mark.parametrize("event", [Tick(), Asked(), Wanted()])
def test_a_missing_token_is_fetched_when_it_is_due(event: table.Event):
    """The timer and a caller both start the attempt, and only one."""
    assert step(Missing(due_at=5.0), event, 5.0) == (Fetching(attempt=7), (Begin(attempt=7),))
    assert step(Fetching(attempt=7), event, 5.0) == (Fetching(attempt=7), ())


def test_callers_do_not_shorten_a_backoff():
    """A thousand callers during an outage cause no more requests than none."""
    waiting = Missing(due_at=5.0, failure=FAILURE)

    assert step(waiting, Wanted(), 4.9) == (waiting, ())


def test_a_success_makes_it_fresh():
    """The new token is in hand and its refresh is set."""
    assert step(Fetching(attempt=6, failure=FAILURE), Succeeded(attempt=6, token=TOKEN), 1_000.0) == (FRESH, ())


def test_a_failure_without_a_token_waits_and_counts():
    """The second failure in a row says so."""
    state, effects = step(Fetching(attempt=6, failure=FAILURE), Failed(attempt=6, failure=FAILURE), 50.0)

    assert effects == ()
    assert isinstance(state, Missing)
    assert state.failure is not None
    assert (state.due_at, state.failure.in_a_row) == (51.0, 2)


def test_a_fresh_token_is_refreshed_when_due():
    """The old one stays in hand meanwhile."""
    assert step(FRESH, Tick(), 1_209.9) == (FRESH, ())
    assert step(FRESH, Tick(), 1_210.0) == (
        Refreshing(token=TOKEN, refresh_at=1_210.0, attempt=7),
        (Begin(attempt=7),),
    )


def test_a_caller_that_needs_more_gets_a_refresh_after_the_cooldown():
    """Within a minute of the last one, no wish of a caller causes a request."""
    assert step(FRESH, Wanted(), 1_059.9) == (FRESH, ())
    assert step(FRESH, Wanted(), 1_060.0)[1] == (Begin(attempt=7),)


def test_a_failed_refresh_keeps_the_token():
    """A failure never overwrites a good token."""
    state, effects = step(REFRESHING, Failed(attempt=6, failure=FAILURE), 1_215.0)

    assert effects == ()
    assert state == Stale(token=TOKEN, refresh_at=1_210.0, due_at=1_216.0, failure=FAILURE)


def test_a_stale_token_is_tried_again_on_backoff():
    """Callers do not shorten it, the timer starts it."""
    assert step(STALE, Wanted(), 1_219.9) == (STALE, ())
    assert step(STALE, Tick(), 1_220.0) == (
        Refreshing(token=TOKEN, refresh_at=1_210.0, attempt=7, failure=FAILURE),
        (Begin(attempt=7),),
    )


@pytest.mark.parametrize(
    ("state", "expected", "begun"),
    [
        (FRESH, Fetching(attempt=7), True),  # the machine slept through refresh and end
        (STALE, Fetching(attempt=7, failure=FAILURE), True),
        (REFRESHING, Fetching(attempt=6), False),  # the attempt goes on
        (
            Stale(token=TOKEN, refresh_at=1_210.0, due_at=9_000.0, failure=FAILURE),
            Missing(due_at=9_000.0, failure=FAILURE),
            False,
        ),
    ],
)
def test_a_token_that_ended_is_dropped_before_anything_else(state: State, expected: State, begun: bool):
    """Whatever the state, no token outlives its end, and the end is told once."""
    after, effects = step(state, Tick(), 1_300.0)

    assert after == expected
    assert effects == ((Expired(), Begin(attempt=7)) if begun else (Expired(),))


def test_a_token_of_a_moment_makes_no_tight_loop():
    """expires_in of a fiftieth of a second: a request a second, not a hundred."""
    blink = issued(at=1_000.0, lifetime=0.02)
    fresh, _ = step(Fetching(attempt=6), Succeeded(attempt=6, token=blink), 1_000.01)

    after, effects = step(fresh, Tick(), 1_000.02)

    assert after == Missing(due_at=1_001.0)
    assert effects == (Expired(),)


@pytest.mark.parametrize("pace", [Pace.SLOW, Pace.HELD])
def test_what_was_held_back_is_tried_at_once_when_the_reason_is_gone(pace: Pace):
    """A new key, a new certificate, a client that is answered again; those of a client are spread over a moment."""
    held = Failure(code="client_suspended", pace=pace)
    chance = Chance(spread=0.5, dice=0.0)

    missing, _ = table.step(Missing(due_at=500.0, failure=held), Unblocked(), now=5.0, chance=chance, next_attempt=7)
    stale, _ = table.step(
        Stale(token=TOKEN, refresh_at=1_210.0, due_at=1_290.0, failure=held),
        Unblocked(),
        now=1_220.0,
        chance=chance,
        next_attempt=7,
    )

    assert missing == Missing(due_at=6.0, failure=held)
    assert isinstance(stale, Stale)
    assert stale.due_at == 1_221.0


def test_a_certificate_that_a_wrong_clock_refused_is_looked_at_again_at_once():
    """Its backoff is an ordinary one, but a minute after the clock was put right is a minute too many."""
    dated = Failure(code="server_certificate_refused", pace=Pace.ORDINARY)

    assert step(Missing(due_at=50.0, failure=dated), Unblocked(), 5.0)[0] == Missing(due_at=5.0, failure=dated)


def test_an_ordinary_backoff_is_not_cut_short():
    """It ends soon by itself."""
    assert step(Missing(due_at=50.0, failure=FAILURE), Unblocked(), 5.0) == (Missing(due_at=50.0, failure=FAILURE), ())


def test_what_was_not_tried_does_not_count_as_a_failure():
    """A client that was held back for an hour has no long backoff behind it."""
    held = Failure(code="client_suspended", pace=Pace.HELD, retry_after=30.0)

    state, _ = step(Fetching(attempt=6, failure=FAILURE), Failed(attempt=6, failure=held), 50.0)

    assert isinstance(state, Missing)
    assert state.failure is not None
    assert (state.due_at, state.failure.in_a_row) == (80.0, 1)


def test_a_slow_refresh_does_not_overwrite_a_newer_token():
    """The answer to an attempt that is not the current one is dropped, good or bad."""
    fresh = Fresh(token=NEXT, refresh_at=1_420.0)

    assert step(fresh, Succeeded(attempt=3, token=TOKEN), 1_215.0) == (fresh, ())
    assert step(fresh, Failed(attempt=3, failure=FAILURE), 1_215.0) == (fresh, ())
    assert step(REFRESHING, Succeeded(attempt=3, token=TOKEN), 1_215.0) == (REFRESHING, ())
    assert step(REFRESHING, Failed(attempt=3, failure=FAILURE), 1_215.0) == (REFRESHING, ())


def test_an_answer_that_took_longer_than_the_token_lives_is_not_served():
    """It is a wait of a second, not a token."""
    assert step(Fetching(attempt=6), Succeeded(attempt=6, token=TOKEN), 1_300.0) == (Missing(due_at=1_301.0), ())


@pytest.mark.parametrize(
    ("state", "at"),
    [
        (Missing(due_at=5.0), 5.0),
        (Fetching(attempt=1), None),
        (FRESH, 1_210.0),
        (REFRESHING, 1_300.0),
        (STALE, 1_220.0),
        (Stale(token=TOKEN, refresh_at=1_210.0, due_at=1_400.0, failure=FAILURE), 1_300.0),
    ],
)
def test_the_next_alarm(state: State, at: float | None):
    """Each state but one that waits for an attempt needs the clock at one definite time."""
    assert table.wake_at(state) == at


@dataclass
class World:
    """Plays the keeper: keeps the state, the clock and the running attempt."""

    state: State = field(default_factory=lambda: Missing(due_at=0.0))
    now: float = 0.0
    attempts: int = 0
    running: int | None = None
    eager: bool = True
    begun_at: list[float] = field(default_factory=list)
    failed: bool = False

    def take(self, event: table.Event, dice: float) -> None:
        chance = Chance(spread=0.5, dice=dice)
        self.state, effects = table.step(
            self.state, event, now=self.now, chance=chance, next_attempt=self.attempts + 1, eager=self.eager
        )
        for effect in effects:
            if isinstance(effect, Begin):
                assert self.running is None, "two attempts at once"
                if self.failed:
                    assert self.now - self.begun_at[-1] >= 1.0, "a tight loop after a failure"
                self.running = self.attempts = effect.attempt
                self.begun_at.append(self.now)

    def finish(self, lifetime: float | None, dice: float) -> None:
        attempt, self.running = self.running, None
        if attempt is None:
            return
        self.failed = lifetime is None
        if lifetime is None:
            self.take(Failed(attempt=attempt, failure=FAILURE), dice)
        else:
            token = issued(at=self.begun_at[-1], lifetime=lifetime, generation=attempt)
            self.take(Succeeded(attempt=attempt, token=token), dice)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["tick", "wanted", "forced", "succeed", "fail", "stray"]),
        st.floats(0, 400),
        st.floats(1, 600),
        st.floats(0, 0.999),
    ),
    max_size=40,
)


DEMAND = st.lists(st.sampled_from(["tick", "asked", "wanted", "succeed", "fail"]), max_size=40)


@settings(derandomize=True, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(DEMAND, st.lists(st.tuples(st.floats(0, 400), st.floats(1, 600)), min_size=40, max_size=40))
def test_on_demand_no_more_attempts_are_begun_than_somebody_asked(moves: list[str], times: list[tuple[float, float]]):
    """After any story: each attempt has a caller of its own, and no token outlives its end."""
    world = World(state=Idle(due_at=0.0), eager=False)
    asked = 0
    for move, (seconds, lifetime) in zip(moves, times, strict=False):
        world.now += seconds
        match move:
            case "asked" | "wanted":
                asked += 1
                world.take(Asked() if move == "asked" else Wanted(), 0.5)
            case "succeed" | "fail":
                world.finish(lifetime if move == "succeed" else None, 0.5)
        world.take(Tick(), 0.5)

        token = table.token_of(world.state)
        assert len(world.begun_at) <= asked
        assert token is None or token.expires_at > world.now


@settings(derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(MOVES)
def test_whatever_happens_a_next_attempt_comes_and_no_token_outlives_its_end(
    moves: list[tuple[str, float, float, float]],
):
    """After any story: one attempt at a time, always a next alarm or a running attempt, no expired token kept."""
    world = World()
    for move, seconds, lifetime, dice in moves:
        world.now += seconds
        match move:
            case "tick":
                world.take(Tick(), dice)
            case "wanted":
                world.take(Wanted(), dice)
            case "forced":
                world.take(Forced(), dice)
            case "succeed":
                world.finish(lifetime, dice)
            case "fail":
                world.finish(None, dice)
            case "stray":
                world.take(Failed(attempt=10_000, failure=FAILURE), dice)
        world.take(Tick(), dice)

        token = table.token_of(world.state)
        assert token is None or token.expires_at > world.now
        assert (world.running is not None) == isinstance(world.state, Fetching | Refreshing)
        assert world.running is not None or table.wake_at(world.state) is not None
        at = table.wake_at(world.state)
        assert at is None or at <= world.now + 24 * 3600


def test_the_last_failure_is_known_until_a_success():
    """A fresh token has no failure; every other state tells the last one."""
    assert table.failure_of(FRESH) is None
    assert table.failure_of(STALE) == FAILURE
    assert table.failure_of(Fetching(attempt=1, failure=FAILURE)) == FAILURE


def on_demand(state: State, event: table.Event, now: float) -> tuple[State, tuple[Effect, ...]]:
    return table.step(state, event, now=now, chance=CHANCE, next_attempt=7, eager=False)


def test_the_clock_alone_fetches_nothing_on_demand():
    """No token, one that is due for a refresh, one whose refresh failed: all wait for somebody who asks."""
    for state in (Idle(due_at=0.0), FRESH, STALE):
        assert on_demand(state, Tick(), 1_250.0) == (state, ())
        assert on_demand(state, Asked(), 1_250.0)[1] == (Begin(attempt=7),)


def test_on_demand_a_caller_in_the_backoff_plans_the_attempt_that_comes_after_it():
    """It does not shorten the backoff; but when that is over the token is fetched, for whoever waits or comes back."""
    planned, effects = on_demand(Idle(due_at=1_005.0, failure=FAILURE), Asked(), 1_004.0)

    assert (planned, effects) == (Missing(due_at=1_005.0, failure=FAILURE), ())
    assert on_demand(planned, Wanted(), 1_004.5) == (planned, ())
    assert on_demand(planned, Tick(), 1_005.0) == (Fetching(attempt=7, failure=FAILURE), (Begin(attempt=7),))


def test_on_demand_a_failure_waits_for_the_next_caller():
    """One caller is one attempt, and the backoff grows over them."""
    state, _ = on_demand(Fetching(attempt=6, failure=FAILURE), Failed(attempt=6, failure=FAILURE), 50.0)

    assert isinstance(state, Idle)
    assert state.failure is not None
    assert (state.due_at, state.failure.in_a_row) == (51.0, 2)
    assert table.wake_at(state, eager=False) is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [(FRESH, Idle(due_at=1_300.0)), (STALE, Idle(due_at=1_220.0, failure=FAILURE))],
)
def test_on_demand_a_token_that_nobody_asks_for_lapses_without_an_alarm(state: State, expected: State):
    """It was nobody's any longer; one for which an attempt runs is missed, and that is said."""
    assert on_demand(state, Tick(), 1_300.0) == (expected, (Lapsed(),))
    assert on_demand(REFRESHING, Tick(), 1_300.0) == (Fetching(attempt=6), (Expired(),))


def test_on_demand_only_the_end_of_a_token_needs_an_alarm():
    """Neither its time to refresh nor the end of a backoff does."""
    assert table.wake_at(FRESH, eager=False) == table.wake_at(STALE, eager=False) == 1_300.0
    assert table.wake_at(Idle(due_at=5.0), eager=False) is None
    assert table.wake_at(Missing(due_at=5.0), eager=False) == 5.0


def test_on_demand_what_was_held_back_may_be_tried_at_once_when_the_reason_is_gone():
    """By the next caller, that is."""
    held = Failure(code="server_refused", pace=Pace.SLOW)

    assert on_demand(Idle(due_at=500.0, failure=held), Unblocked(), 5.0) == (Idle(due_at=5.0, failure=held), ())


def test_a_state_comes_to_rest_as_the_configuration_has_it():
    """A reload makes an eager token one on demand, and the other way round; a token in hand stays."""
    assert table.at_rest(Missing(due_at=5.0, failure=FAILURE), eager=False) == Idle(due_at=5.0, failure=FAILURE)
    assert table.at_rest(Idle(due_at=5.0), eager=True) == Missing(due_at=5.0)
    assert table.at_rest(FRESH, eager=False) is FRESH


SLOW = Failure(code="server_refused", pace=Pace.SLOW, server_error="invalid_client")
HELD = Failure(code="client_suspended", pace=Pace.HELD)


def test_a_forced_refresh_comes_whatever_is_left_of_the_token():
    """Not within the cooldown. From then on the token in hand is past its time."""
    assert step(FRESH, Forced(), 1_059.9) == (FRESH, ())
    assert step(FRESH, Forced(), 1_060.0) == (
        Refreshing(token=TOKEN, refresh_at=1_060.0, attempt=7, forced_at=1_060.0),
        (Begin(attempt=7),),
    )
    assert step(FRESH, Forced(), 1_250.0)[0] == Refreshing(
        token=TOKEN, refresh_at=1_210.0, attempt=7, forced_at=1_250.0
    )


@pytest.mark.parametrize("state", [Fetching(attempt=6), REFRESHING])
def test_callers_that_force_share_the_attempt_that_runs(state: State):
    """Whoever began it."""
    assert step(state, Forced(), 1_215.0) == (state, ())


@pytest.mark.parametrize(
    "state",
    [
        Missing(due_at=1_250.0, failure=FAILURE),
        Missing(due_at=1_250.0, failure=HELD),
        Missing(due_at=1_250.0),
        STALE,
        Stale(token=TOKEN, refresh_at=1_210.0, due_at=1_220.0, failure=HELD),
        Stale(token=TOKEN, refresh_at=1_210.0, due_at=1_220.0, failure=replace(SLOW, retry_after=30.0)),
    ],
)
def test_a_forced_refresh_shortens_no_backoff(state: State):
    """Neither that of an outage, nor the probes of a suspended client, nor what the server asked for."""
    assert step(state, Forced(), 1_219.0) == (state, ())


def test_a_forced_refresh_comes_when_an_attempt_is_due():
    """With a token in hand and without one."""
    assert step(STALE, Forced(), 1_220.0) == (
        Refreshing(token=TOKEN, refresh_at=1_210.0, attempt=7, failure=FAILURE, forced_at=1_220.0),
        (Begin(attempt=7),),
    )
    assert step(Missing(due_at=5.0, failure=FAILURE), Forced(), 5.0) == (
        Fetching(attempt=7, failure=FAILURE, forced_at=5.0),
        (Begin(attempt=7),),
    )


def test_an_error_that_somebody_has_to_mend_is_tried_at_once_when_a_caller_forces_it():
    """Perhaps somebody did."""
    stale = Stale(token=TOKEN, refresh_at=1_210.0, due_at=1_290.0, failure=SLOW)

    assert step(stale, Forced(), 1_219.0)[1] == (Begin(attempt=7),)
    assert step(Missing(due_at=1_900.0, failure=SLOW), Forced(), 1_400.0)[1] == (Begin(attempt=7),)
    assert step(Idle(due_at=1_900.0, failure=SLOW), Forced(), 1_400.0)[1] == (Begin(attempt=7),)


def test_a_new_token_that_fails_early_is_not_forced_either():
    """Within the cooldown there is no other attempt than those that are planned."""
    young = Stale(token=NEXT, refresh_at=1_220.0, due_at=1_900.0, failure=SLOW)

    assert step(young, Forced(), 1_269.0) == (young, ())
    assert step(young, Forced(), 1_270.0)[1] == (Begin(attempt=7),)


@pytest.mark.parametrize("failure", [FAILURE, SLOW])
@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_caller_that_forces_all_the_time_is_bounded_by_the_cooldown(token: object, failure: Failure):
    """Every tenth of a second for ten minutes, against a server that refuses: one attempt a minute and no more."""
    state: State = FRESH if token else Missing(due_at=1_000.0)
    forced_at: list[float] = []
    for tenth in range(6_000):
        now = 1_000.0 + tenth / 10.0
        chance = Chance(spread=0.0, dice=0.999)
        state, effects = table.step(state, Forced(), now=now, chance=chance, next_attempt=tenth)
        if any(isinstance(effect, Begin) for effect in effects):
            forced_at.append(now)
            state, _ = table.step(state, Failed(attempt=tenth, failure=failure), now=now, chance=chance, next_attempt=0)

    if failure is SLOW:
        assert 8 <= len(forced_at) <= 11
        # Before the token in hand ends one attempt is due in any case.
        assert sum(after - before < 60.0 for before, after in pairwise(forced_at)) <= (1 if token else 0)
    else:  # no more than the timer makes by itself: in its last minute half of what is left is waited for at most
        assert len(forced_at) <= 6 + 600 / 59 + (6 if token else 0)


def test_that_an_attempt_was_forced_is_known_until_a_success():
    """Through other failures, and through the end of the token."""
    forced, _ = step(FRESH, Forced(), 1_100.0)
    ended, _ = step(forced, Tick(), 1_300.0)
    failed, _ = step(ended, Failed(attempt=7, failure=SLOW), 1_301.0)
    again, _ = step(failed, Tick(), 9_000.0)
    twice, _ = step(again, Failed(attempt=7, failure=SLOW), 9_001.0)

    assert isinstance(ended, Fetching)
    assert ended.forced_at == 1_100.0
    assert isinstance(twice, Missing)
    assert twice.failure is not None
    assert (twice.failure.forced_at, twice.failure.in_a_row) == (1_100.0, 2)


def test_on_demand_a_caller_that_forces_is_one_that_asks():
    """The next attempt is planned for it where it may not come at once."""
    state, effects = on_demand(Idle(due_at=50.0, failure=FAILURE), Forced(), 5.0)

    assert (state, effects) == (Missing(due_at=50.0, failure=FAILURE), ())
    assert on_demand(Idle(due_at=5.0), Forced(), 5.0)[1] == (Begin(attempt=7),)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "state", [FRESH, REFRESHING, STALE, Missing(due_at=1_220.0), Idle(due_at=1_220.0), Fetching(attempt=6)]
)
@pytest.mark.parametrize("now", [1_000.0, 1_209.9, 1_210.0, 1_219.9, 1_220.0, 1_299.9, 1_300.0, 2_000.0])
def test_what_is_settled_is_not_changed_by_a_caller(state: State, now: float, eager: bool):
    """And whatever has a token and is not changed by one is settled: it may be served without asking the table."""
    after = table.step(state, Asked(), now=now, chance=CHANCE, next_attempt=7, eager=eager)

    assert table.is_settled(state, now) == (after == (state, ()) and table.token_of(state) is not None)
