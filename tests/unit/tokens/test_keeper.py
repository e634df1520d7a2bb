from __future__ import annotations

from dataclasses import replace

import pytest

from broker.events import TokenExpired
from broker.oauth.reasons import Reason
from broker.tokens import state as table
from broker.tokens.keeper import Keeper
from broker.tokens.schedule import Pace
from broker.tokens.serving import TokenState, TokenUnavailableError
from broker.tokens.state import Failed, Failure, Missing, Succeeded, Tick
from tests.fakes import Dice, Events, HandClock
from tests.unit.tokens.tokens import issued, spec


class Fixture:
    """A keeper with its clock and events."""

    def __init__(self, dice: float = 0.0) -> None:
        self.clock = HandClock(now=1_000.0)
        self.events = Events()
        self.keeper = Keeper(spec(), clock=self.clock, randomness=Dice(dice), emit=self.events)

    def succeed(self, lifetime: float = 300.0) -> None:
        attempt = self.keeper.handle(Tick())
        assert attempt is not None
        self.keeper.handle(Succeeded(attempt=attempt, token=issued(at=self.clock.now, lifetime=lifetime)))

    def fail(self, code: str = "connect_failed", server_error: str | None = None) -> None:
        attempt = self.keeper.handle(Tick())
        assert attempt is not None
        failure = Failure(code=code, pace=Pace.ORDINARY, server_error=server_error, hint="look")
        self.keeper.handle(Failed(attempt=attempt, failure=failure))


def test_a_keeper_begins_at_once():
    """The first tick starts the first attempt."""
    fixture = Fixture()

    assert fixture.keeper.handle(Tick()) == 1
    assert fixture.keeper.handle(Tick()) is None


def test_a_token_whose_certificate_has_ended_by_a_clock_that_was_set_is_kept_but_not_served():
    """It is useless with that certificate; when the clock is put back it is good for as long as it was."""
    fixture = Fixture()
    attempt = fixture.keeper.handle(Tick())
    assert attempt is not None
    bound = replace(issued(at=1_000.0), certificate_not_after=fixture.clock.wall() + 3_600.0)
    fixture.keeper.handle(Succeeded(attempt=attempt, token=bound))

    fixture.clock.wall_offset = 7_200.0
    ahead, status = fixture.keeper.servable(None), fixture.keeper.status()
    fixture.clock.wall_offset = 0.0
    right = fixture.keeper.servable(None)

    assert ahead is None
    assert status.expires_in is None
    assert right is not None
    assert right.token is bound


def test_a_served_token_counts_down_in_whole_seconds():
    """expires_in is floored and computed when served."""
    fixture = Fixture()
    fixture.succeed()
    fixture.clock.now += 10.5

    serving = fixture.keeper.servable(None)

    assert serving is not None
    assert (serving.expires_in, serving.stale) == (289, False)


def test_a_token_with_too_little_left_is_a_last_resort_only():
    """Below the validity that a caller needs, it is served only when nothing better comes."""
    fixture = Fixture()
    fixture.succeed()
    fixture.clock.now += 296.0

    assert fixture.keeper.servable(None) is None
    assert fixture.keeper.last_resort().expires_in == 4
    assert fixture.keeper.last_resort().stale


@pytest.mark.parametrize("left", [0.99, 0.0, -5.0])
def test_nothing_is_served_at_or_after_the_end(left: float):
    """A token with less than a second left is of no use; not even as a last resort."""
    fixture = Fixture()
    fixture.succeed()
    fixture.clock.now += 300.0 - left

    assert fixture.keeper.servable(0.0) is None
    with pytest.raises(TokenUnavailableError):
        fixture.keeper.last_resort()


def test_the_end_of_a_token_is_reported_once():
    """An operator sees it in the log and can alarm on it."""
    fixture = Fixture()
    fixture.succeed()
    fixture.clock.now += 300.0

    fixture.keeper.handle(Tick())
    fixture.keeper.handle(Tick())

    assert fixture.events.of(TokenExpired) == [TokenExpired(token="directory")]


def test_the_status_of_each_state():
    """Pending before the first attempt ends, then unavailable, fresh, and stale past the time of refresh."""
    fixture = Fixture()
    assert fixture.keeper.status().state is TokenState.PENDING

    fixture.fail()
    status = fixture.keeper.status()
    assert (status.state, status.reason, status.hint, status.retry_in) == (
        TokenState.UNAVAILABLE,
        "connect_failed",
        "look",
        1,
    )

    fixture.clock.now += 1.0
    fixture.succeed()
    status = fixture.keeper.status()
    assert (status.state, status.reason, status.expires_in, status.retry_in) == (TokenState.FRESH, None, 300, None)

    fixture.clock.now += 250.0
    assert fixture.keeper.status().state is TokenState.STALE
    fixture.fail()
    status = fixture.keeper.status()
    assert (status.state, status.reason, status.expires_in) == (TokenState.STALE, "connect_failed", 50)


@pytest.mark.parametrize(
    ("code", "server_error", "expected"),
    [
        ("connect_failed", None, "temporarily_unavailable"),
        (Reason.SERVER_REFUSED, "invalid_client", "authorization_server_error"),
        (Reason.SERVER_REFUSED, "unrecognized", "authorization_server_error"),
        (Reason.SERVER_REFUSED, "temporarily_unavailable", "temporarily_unavailable"),
        (Reason.RATE_LIMITED, None, "temporarily_unavailable"),
    ],
)
def test_a_refusal_by_the_server_is_told_from_an_outage(code: str, server_error: str | None, expected: str):
    """502 for what an operator has to mend, 503 for what passes (local-api.md)."""
    fixture = Fixture()
    fixture.fail(code, server_error)

    with pytest.raises(TokenUnavailableError) as caught:
        fixture.keeper.last_resort()

    assert caught.value.code == expected
    assert caught.value.server_error == server_error
    assert caught.value.retry_after == 1


def test_a_caller_waits_only_for_what_may_come():
    """An attempt under way may bring a token; a backoff that is longer than the caller's patience does not."""
    fixture = Fixture(dice=0.0)
    fixture.keeper.state = Missing(due_at=fixture.clock.now + 20.0)
    assert fixture.keeper.patience(10.0) == 0
    assert fixture.keeper.patience(20.0) == 20.0

    fixture.keeper.state = table.Fetching(attempt=1)
    assert fixture.keeper.patience(0.1) == 0.1
    assert fixture.keeper.is_running()


def test_a_caller_with_a_token_in_hand_waits_for_no_backoff():
    """The refresh has failed: what is there is served, not waited out."""
    fixture = Fixture()
    fixture.succeed()
    fixture.clock.now += 296.0
    fixture.fail()

    assert fixture.keeper.patience(60.0) == 0


def test_a_wait_for_an_attempt_ends_before_the_token_in_hand_does():
    """A server that hangs must not cost the caller the token that is still good."""
    fixture = Fixture()
    fixture.succeed()
    fixture.clock.now += 295.0
    fixture.keeper.handle(Tick())

    assert fixture.keeper.is_running()
    assert fixture.keeper.patience(60.0) == 3.0
    assert fixture.keeper.patience(1.0) == 1.0


async def test_every_waiting_caller_wakes_at_the_same_change():
    """They share one future; one that gives up does not disturb the others."""
    import asyncio

    fixture = Fixture()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await fixture.keeper.change()
        woken.append(number)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        fixture.keeper.handle(Tick())

    assert woken == [1, 2, 3, 4]
