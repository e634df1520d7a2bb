"""One caller cannot have all connections to an API, and whoever waits for its own gets the next."""

from __future__ import annotations

import asyncio

import pytest

from broker.api import problems
from broker.api.problems import ProblemError
from broker.api.shares import WAIT, Shares, share_of


@pytest.mark.parametrize(("connections", "share"), [(1, 1), (2, 1), (4, 3), (64, 48), (1_000, 750)])
def test_a_share_is_three_quarters(connections: int, share: int):
    """One at the least."""
    assert share_of(connections) == share


async def test_a_caller_waits_for_its_own_calls_and_others_do_not():
    """The places are handed over in the order in which they are waited for."""
    shares = Shares()
    for _ in range(3):
        await shares.take("api", 1, 4)
    first = asyncio.ensure_future(shares.take("api", 1, 4))
    second = asyncio.ensure_future(shares.take("api", 1, 4))
    await asyncio.sleep(1.0)

    await shares.take("api", 2, 4)
    await shares.take("other", 1, 4)
    assert not first.done()
    shares.give_back("api", 1)
    await asyncio.sleep(0.1)

    assert first.done()
    assert not second.done()
    shares.give_back("api", 1)
    await second


async def test_who_waits_too_long_is_told_so_and_forgotten():
    """429: it is no fault of the API."""
    shares = Shares()
    await shares.take("api", 1, 1)
    began = asyncio.get_running_loop().time()

    with pytest.raises(ProblemError) as raised:
        await shares.take("api", 1, 1)

    assert raised.value.problem is problems.TOO_MANY_CALLS
    assert asyncio.get_running_loop().time() == began + WAIT
    shares.give_back("api", 1)
    await shares.take("api", 1, 1)


async def test_a_place_is_not_lost_with_who_waited_for_it():
    """Neither before nor in the moment in which it is handed over."""
    shares = Shares()
    await shares.take("api", 1, 1)
    gone = asyncio.ensure_future(shares.take("api", 1, 1))
    await asyncio.sleep(0.1)
    gone.cancel()
    await asyncio.sleep(0.1)
    shares.give_back("api", 1)

    await shares.take("api", 1, 1)
    late = asyncio.ensure_future(shares.take("api", 1, 1))
    await asyncio.sleep(0.1)
    shares.give_back("api", 1)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late

    await asyncio.wait_for(shares.take("api", 1, 1), 1.0)
