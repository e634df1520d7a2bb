"""clock: the real ones."""

from __future__ import annotations

import base64
import datetime as dt
import time

from broker.hostenv.clock import SystemClock, SystemRandomness


def test_the_boot_clock_is_that_of_the_kernel() -> None:
    """It goes on while the machine sleeps, unlike the monotonic one."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)

    read = SystemClock().boot()

    assert before <= read <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_awake_clock_is_the_one_that_timers_follow() -> None:
    """It is behind the boot clock by the time that the machine slept."""
    before = time.monotonic()

    read = SystemClock().awake()

    assert before <= read <= time.monotonic()


def test_the_wall_clock_gives_unix_seconds() -> None:
    """Not milliseconds, not local time."""
    before = dt.datetime.now(dt.UTC).timestamp()

    read = SystemClock().wall()

    assert before - 1 <= read <= dt.datetime.now(dt.UTC).timestamp() + 1


def test_a_token_holds_as_many_bytes_as_asked_for_and_never_the_same() -> None:
    """Base64url without padding."""
    tokens = {SystemRandomness().token(32) for _ in range(100)}

    assert len(tokens) == 100
    assert {len(base64.urlsafe_b64decode(token + "=")) for token in tokens} == {32}


def test_chance_is_at_least_0_below_1_and_not_always_the_same() -> None:
    """Jitter is computed from it."""
    numbers = [SystemRandomness().uniform() for _ in range(1_000)]

    assert all(0 <= number < 1 for number in numbers)
    assert len(set(numbers)) > 990
