from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import LocalError, Outcome, RemoteError
from broker.tokens import schedule
from broker.tokens.schedule import Pace
from tests.unit.tokens.tokens import issued


@pytest.mark.parametrize(
    ("lifetime", "spread", "expected"),
    [
        (1000.0, 0.0, 700.0),
        (1000.0, 1.0, 800.0),
        (1000.0, 0.5, 750.0),
        (40.0, 1.0, 30.0),  # a fifth would be 8 s: the least lead of 10 s holds
        (12.0, 0.0, 6.0),  # ten seconds would be nearly all of it: half of the lifetime holds
        (2.0, 1.0, 1.0),
    ],
)
def test_a_token_is_refreshed_well_ahead_of_its_end(lifetime: float, spread: float, expected: float):
    """At 70 to 80 % of the lifetime, 10 s ahead at least, but never before half of it."""
    assert schedule.refresh_at(issued(at=0.0, lifetime=lifetime), spread) == pytest.approx(expected)


@given(lifetime=st.floats(0.001, 10 * 365 * 86_400), spread=st.floats(0, 0.999))
def test_the_time_of_refresh_lies_within_the_life_of_the_token(lifetime: float, spread: float):
    """Whatever the lifetime, the refresh comes after half of it and before its end."""
    at = schedule.refresh_at(issued(at=0.0, lifetime=lifetime), spread)

    assert lifetime / 2 - 1e-6 <= at < lifetime


@pytest.mark.parametrize(
    ("failures", "dice", "expected"),
    [(1, 0.0, 1.0), (1, 0.5, 1.5), (2, 1.0, 4.0), (5, 1.0, 32.0), (6, 1.0, 60.0), (60, 1.0, 60.0), (9999, 0.0, 1.0)],
)
def test_backoff_doubles_up_to_a_minute_with_jitter(failures: int, dice: float, expected: float):
    """Exponential with full jitter above one second; a huge count neither overflows nor waits longer."""
    assert schedule.backoff(failures, dice) == pytest.approx(expected)


def test_a_failure_never_makes_a_tight_loop():
    """The least delay is a second, even when the server says Retry-After: 0."""
    delay = schedule.retry_delay(failures=1, pace=Pace.ORDINARY, retry_after=0.0, remaining=None, dice=0.0)

    assert delay == schedule.FIRST_BACKOFF


def test_retry_after_is_honored_when_it_is_longer_than_our_own_wait():
    """The server's word wins over our jitter."""
    delay = schedule.retry_delay(failures=1, pace=Pace.ORDINARY, retry_after=42.0, remaining=None, dice=0.9)

    assert delay == 42.0


def test_an_absurd_retry_after_is_clamped():
    """A day's wait is a mistake of the server: it is asked again after five minutes."""
    delay = schedule.retry_delay(failures=1, pace=Pace.ORDINARY, retry_after=86_400.0, remaining=None, dice=0.0)

    assert delay == schedule.MAX_RETRY_AFTER


def test_one_attempt_is_made_before_the_token_in_hand_ends_whatever_retry_after_says():
    """With 60 s left and Retry-After: 200, the next attempt comes 10 s before the end."""
    delay = schedule.retry_delay(failures=1, pace=Pace.ORDINARY, retry_after=200.0, remaining=60.0, dice=0.0)

    assert delay == 50.0


def test_retry_after_counts_in_full_when_the_token_is_nearly_over_anyway():
    """With less than the least lead left there is nothing to save by asking early."""
    delay = schedule.retry_delay(failures=1, pace=Pace.ORDINARY, retry_after=30.0, remaining=5.0, dice=0.0)

    assert delay == 30.0


@pytest.mark.parametrize(
    ("remaining", "expected"), [(None, 60.0), (200.0, 60.0), (40.0, 20.0), (3.0, 1.5), (1.5, 1.0), (0.0, 1.0)]
)
def test_no_wait_takes_more_than_half_of_what_is_left_of_a_token(remaining: float | None, expected: float):
    """After many failures, too: a server that comes back before the token ends is asked before it ends."""
    delay = schedule.retry_delay(
        failures=10, pace=Pace.ORDINARY, retry_after=None, remaining=remaining, dice=0.999_999_999
    )

    assert delay == pytest.approx(expected)


@pytest.mark.parametrize("code", sorted(schedule.CLIENT_SIDE_ERRORS))
def test_errors_that_somebody_has_to_mend_are_retried_slowly_and_for_ever(code: str):
    """invalid_client and its like: every 5 to 15 minutes, never not at all."""
    error = RemoteError("server_refused", "no", outcome=Outcome.REFUSED, server_error=code)
    pace = schedule.pace_of(error)

    delay = schedule.retry_delay(failures=1000, pace=pace, retry_after=None, remaining=None, dice=0.5)

    assert delay == 600.0


def test_our_own_errors_are_retried_slowly():
    """A key that cannot sign will not sign in a second either."""
    assert schedule.pace_of(LocalError("signing_failed", "no")) is Pace.SLOW


@pytest.mark.parametrize("code", ["server_failed", "rate_limited"])
def test_a_failing_server_is_not_slow_whatever_error_it_names(code: str):
    """500 with invalid_request in it is a failure of the server, not a refusal."""
    error = RemoteError(code, "no", outcome=Outcome.UNKNOWN, status=500, server_error="invalid_request")

    assert schedule.pace_of(error) is Pace.ORDINARY


def test_a_slow_retry_does_not_let_the_token_in_hand_end_untried():
    """One invalid_client may be a hiccup of the server: there is one attempt before the end."""
    with_token = schedule.retry_delay(failures=1, pace=Pace.SLOW, retry_after=None, remaining=60.0, dice=0.5)
    nearly_over = schedule.retry_delay(failures=1, pace=Pace.SLOW, retry_after=None, remaining=10.5, dice=0.5)

    assert with_token == 50.0
    assert nearly_over == 600.0


def test_what_is_held_back_waits_for_exactly_as_long_as_it_is_told():
    """No backoff of its own: the probe is for all tokens of the client."""
    error = RemoteError("client_suspended", "no", outcome=Outcome.NOT_SENT, retry_after=42.0)

    delay = schedule.retry_delay(failures=9, pace=schedule.pace_of(error), retry_after=42.0, remaining=None, dice=0.9)

    assert delay == 42.0


@pytest.mark.parametrize("code", [None, "temporarily_unavailable", "server_error", "unrecognized"])
def test_everything_else_is_retried_on_ordinary_backoff(code: str | None):
    """Also an error code that nobody registered: it may be a hiccup."""
    error = RemoteError("server_failed", "no", outcome=Outcome.UNKNOWN, server_error=code)

    assert schedule.pace_of(error) is Pace.ORDINARY


@pytest.mark.parametrize(
    ("lifetime", "asked", "expected"),
    [(300.0, None, 5.0), (3600.0, None, 36.0), (8.0, None, 4.0), (300.0, 100.0, 100.0), (300.0, 200.0, 150.0)],
)
def test_the_validity_a_caller_gets(lifetime: float, asked: float | None, expected: float):
    """5 s or a hundredth of the lifetime by default, as asked otherwise, never more than half of it."""
    assert schedule.min_valid_of(issued(lifetime=lifetime), asked) == expected
