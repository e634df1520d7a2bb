from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.tokens.serving import TokenUnavailableError
from broker.tokens.spec import Refresh
from tests.jumping import loop_time
from tests.unit.tokens.grant_world import SPEC, GrantWorld, RotatingServer, not_sent


async def test_a_caller_waits_for_the_attempt_that_is_under_way_and_no_longer_than_it_says():
    """With nothing in hand; who has no time is told when to come back."""
    world = GrantWorld(RotatingServer("strict", delay=3.0))
    world.stored("g")
    async with world.running() as grants:
        for wait in (0.0, 1.0):
            start = loop_time()
            with pytest.raises(TokenUnavailableError) as raised:
                await grants.get("g", min_valid=None, wait=wait)
            assert raised.value.retry_after >= 1
            assert loop_time() - start <= wait + 0.1
        assert (await grants.get("g", min_valid=None, wait=10.0)).expires_in > 0
        assert len(world.server.asked) == 1


async def test_two_hundred_callers_share_one_attempt():
    """A rotating refresh token is good for one."""
    world = GrantWorld(RotatingServer("strict", delay=1.0))
    world.stored("g")
    async with world.running() as grants:
        served = await asyncio.gather(*(grants.get("g", min_valid=None, wait=10.0) for _ in range(200)))

    assert len({serving.token.etag for serving in served}) == 1
    assert len(world.server.asked) == 1


async def test_who_waited_for_an_attempt_that_failed_is_not_kept_for_the_next():
    """It may have other things to do."""
    world = GrantWorld(RotatingServer("strict", delay=1.0))
    world.server.before = lambda _: not_sent()
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.5)
        start = loop_time()
        with pytest.raises(TokenUnavailableError):
            await grants.get("g", min_valid=None, wait=60.0)

        assert loop_time() - start < 5.0


async def test_whoever_waits_when_a_grant_is_given_up_is_told_at_once():
    """Nothing is coming any more."""
    world = GrantWorld(RotatingServer("strict", delay=30.0))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.5)
        waiting = asyncio.create_task(grants.get("g", min_valid=None, wait=60.0))
        await asyncio.sleep(0.1)
        start = loop_time()
        revoking = asyncio.create_task(grants.revoke("g"))
        with pytest.raises(TokenUnavailableError):
            await waiting
        assert loop_time() - start < 1.0
        await revoking


async def test_a_grant_on_demand_that_has_run_out_is_idle_until_somebody_asks():
    """It is missing for nobody; one that is kept fresh never is."""
    spec = replace(SPEC, refresh=Refresh.ON_DEMAND)
    world = GrantWorld(RotatingServer("strict"), specs=(spec,))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        has_token = grants.is_idle("g")
        await asyncio.sleep(4_000.0)
        has_run_out = grants.is_idle("g")
        with grants.watch("g"):
            is_waited_for = grants.is_idle("g")
        await grants.get("g", min_valid=None, wait=5.0)

        assert (has_token, has_run_out, is_waited_for) == (False, True, False)
        assert not grants.is_idle("g")


async def test_who_waits_for_news_of_a_grant_on_demand_has_the_next_token_before_the_last_one_ends():
    """It asks, only slowly; when it has gone, the grant is asked for as seldom as before."""
    spec = replace(SPEC, refresh=Refresh.ON_DEMAND)
    world = GrantWorld(RotatingServer("strict"), specs=(spec,))
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        with grants.watch("g") as watch:
            await asyncio.wait_for(asyncio.shield(watch.news), 600.0)
            assert watch.standing().etag not in (None, first.token.etag)
            assert world.clock.boot() < first.token.expires_at
        await asyncio.sleep(900.0)

        assert len(world.server.asked) == 2


async def test_an_access_token_at_once_is_the_one_that_a_caller_would_get():
    """As long as nothing is due; whatever needs more than a look is left to ``get``."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        assert grants.at_once("g", min_valid=None) is None
        assert grants.at_once("nobody", min_valid=None) is None
        got = await grants.get("g", min_valid=None, wait=10.0)

        assert grants.at_once("g", min_valid=None) == got
        assert grants.at_once("g", min_valid=10.0) == got
        asked = len(world.server.asked)
        assert grants.at_once("g", min_valid=86_400.0) in (got, None)
        assert len(world.server.asked) == asked


async def test_a_grant_on_demand_that_wants_a_refresh_is_not_given_at_once():
    """Whoever asks for it is the reason for which it is refreshed."""
    world = GrantWorld(RotatingServer("strict"), specs=(replace(SPEC, refresh=Refresh.ON_DEMAND),))
    world.stored("g")
    async with world.running() as grants:
        got = await grants.get("g", min_valid=None, wait=10.0)
        assert grants.at_once("g", min_valid=None) == got
        await asyncio.sleep(got.expires_in * 0.85)

        assert grants.at_once("g", min_valid=0.0) is None
