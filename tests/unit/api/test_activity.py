"""Waiting for the last thing to end."""

from __future__ import annotations

from broker.api.activity import Activity
from tests.jumping import loop_time


async def test_what_never_began_is_quiet():
    """There is nothing to wait for."""
    assert await Activity().quiet(0.0)


async def test_it_is_quiet_when_as_many_ended_as_began():
    """Not before."""
    activity = Activity()
    activity.begin()
    activity.begin()
    activity.end()

    assert activity.running == 1
    assert not await activity.quiet(5.0)

    activity.end()

    assert await activity.quiet(5.0)


async def test_the_wait_has_an_end():
    """Whatever hangs does not hold up who waits for it."""
    activity = Activity()
    activity.begin()
    began = loop_time()

    assert not await activity.quiet(3.0)
    assert loop_time() - began == 3.0
