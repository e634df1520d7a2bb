from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.tokens.serving import TokenUnavailableError
from broker.tokens.spec import Consent, Refresh
from tests.unit.tokens.grant_world import SPEC, GrantWorld, RotatingServer, not_sent


async def test_a_restart_spends_nothing():
    """R2.11: the access token is sealed beside the refresh token."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
    await asyncio.sleep(30.0)
    async with world.running() as grants:
        second = await grants.get("g", min_valid=None, wait=0.0)

    assert second.token.access_token == first.token.access_token
    assert second.expires_in == first.expires_in - 30
    assert len(world.server.asked) == 1


async def test_an_access_token_from_the_future_is_taken_for_ended():
    """R2.11: the wall clock was set back; nobody knows how old it is."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
    world.clock.wall_offset = -3600.0
    async with world.running() as grants:
        with pytest.raises(TokenUnavailableError):
            await grants.get("g", min_valid=None, wait=0.0)
        assert (await grants.get("g", min_valid=None, wait=5.0)).expires_in > 290


async def test_on_demand_a_grant_is_refreshed_when_it_is_used_and_often_enough_to_live():
    """R2.10: once in a while though nobody asks, and at once for whoever does."""
    spec = replace(SPEC, refresh=Refresh.ON_DEMAND, consent=Consent(keepalive=1200.0))
    world = GrantWorld(RotatingServer("strict"), specs=(spec,))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(12_000.0)
        assert 9 <= len(world.server.asked) <= 12

        before = len(world.server.asked)
        assert (await grants.get("g", min_valid=None, wait=5.0)).expires_in > 0
        await asyncio.sleep(250.0)
        good = await grants.get("g", min_valid=None, wait=0.0)
        assert not good.token.expires_at < world.clock.boot()
        await asyncio.sleep(1.0)
        assert len(world.server.asked) == before + 2


async def test_a_known_idle_lifetime_halves_the_wait():
    """R2.10: the server says how long an unused refresh token lives."""
    spec = replace(SPEC, refresh=Refresh.ON_DEMAND)
    world = GrantWorld(RotatingServer("strict"), specs=(spec,))
    world.server.members = lambda _: {"refresh_expires_in": 1800}
    world.stored("g")
    async with world.running():
        await asyncio.sleep(9000.0)

    assert 10 <= len(world.server.asked) <= 12


async def test_a_token_whose_certificate_has_ended_by_a_clock_that_was_set_is_kept_but_not_served():
    """As one without a person: useless with that certificate, and good again when the clock is put back."""
    world = GrantWorld(RotatingServer("strict"))
    world.server.not_after = world.clock.wall() + 3_600.0
    world.stored("g")
    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=5.0)
        world.clock.wall_offset = 7_200.0
        world.server.before = lambda _: not_sent()
        assert grants.status("g").expires_in is None
        with pytest.raises(TokenUnavailableError):
            await grants.get("g", min_valid=None, wait=0.0)
        await asyncio.sleep(1.0)
        world.clock.wall_offset = 0.0

        assert (await grants.get("g", min_valid=None, wait=0.0)).token is first.token
