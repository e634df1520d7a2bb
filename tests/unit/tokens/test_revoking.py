from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.events import (
    GrantRevoked,
)
from broker.oauth.secret import RefreshToken
from broker.tokens.grant import Phase
from tests.unit.tokens.grant_world import GrantWorld, RotatingServer, not_sent


async def test_a_grant_that_is_given_up_is_not_served_and_revoked():
    """R2.12: at once here, and at the server; the record goes when the server has confirmed it."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
        assert await grants.revoke("g") == "revoked"

        with pytest.raises(KeyError):
            await grants.get("g", min_valid=None, wait=0.0)
        assert world.server.revoked == ["rt-g-2"]
        assert world.store.grant("g") is None
        assert [event.outcome for event in world.events.of(GrantRevoked)] == ["revoked"]


async def test_a_revocation_outlives_outages_and_crashes():
    """The sealed record stays until the server has confirmed it."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.crashing() as grants:
        await asyncio.sleep(2.0)
        world.server.before = lambda _: not_sent()
        assert await grants.revoke("g") == "pending"
        await asyncio.sleep(100.0)
    left = world.store.grant("g")
    assert left is not None
    assert (left.phase, left.access) == (Phase.REVOKING, None)

    world.server.before = lambda _: None
    async with world.running() as grants:
        await asyncio.sleep(1.0)
        assert world.server.revoked == ["rt-g-2"]
        assert world.store.grant("g") is None
        with pytest.raises(KeyError):
            grants.status("g")


async def test_what_a_refresh_brings_for_a_grant_that_was_given_up_is_revoked_too():
    """R2.12: the request was under way."""
    world = GrantWorld(RotatingServer("grace", delay=2.0))
    world.stored("g")
    async with world.running() as grants:
        await asyncio.sleep(1.5)
        revoking = asyncio.create_task(grants.revoke("g"))
        await asyncio.sleep(60.0)
        await revoking

    assert world.server.revoked[-1] == "rt-g-2"
    assert world.store.grant("g") is None


async def test_a_grant_that_was_not_verified_is_revoked_after_a_crash():
    """R4: it was never usable."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g", phase=Phase.UNVERIFIED)
    async with world.running() as grants:
        await asyncio.sleep(1.0)

        assert world.server.revoked == ["rt-g-1"]
        assert world.store.grant("g") is None
        assert grants.one("person") is None


async def test_a_stop_revokes_nothing():
    """R2.12: never at shutdown."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("a", "b")
    async with world.running():
        await asyncio.sleep(500.0)

    assert world.server.revoked == []


async def test_a_grant_that_fails_a_check_is_discarded():
    """R4: revoked and erased."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        stored = world.store.grant("g")
        assert stored is not None
        bad = replace(stored, id="bad", refresh_token=RefreshToken(world.server.issue("bad")))
        await grants.hold(bad)
        await grants.discard(bad)

        assert world.server.revoked == ["rt-bad-2"]
        assert world.store.grant("bad") is None
