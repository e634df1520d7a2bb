from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.events import (
    GrantExpiring,
)
from broker.oauth.client import RefreshRotation
from broker.tokens.serving import ConsentRequiredError
from tests.jumping import advance
from tests.unit.tokens.grant_world import GrantWorld, RotatingServer


async def test_without_a_refresh_token_a_grant_is_served_to_its_end_with_a_warning():
    """R2.10."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g")
    async with world.running() as grants:
        await grants.get("g", min_valid=None, wait=5.0)
    stored = world.store.grant("g")
    assert stored is not None
    world.store.values["grant/g"] = replace(stored, refresh_token=None).to_bytes()
    async with world.running() as grants:
        await asyncio.sleep(280.0)
        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0
        assert [round(event.expires_in) for event in world.events.of(GrantExpiring)] == [60]
        await asyncio.sleep(60.0)

        with pytest.raises(ConsentRequiredError) as raised:
            await grants.get("g", min_valid=None, wait=0.0)
    assert raised.value.reason == "no_refresh_token"
    assert len(world.server.asked) == 1


async def test_the_end_of_a_consent_is_warned_about_and_ends_nothing():
    """Time never does (R2.6): the server's word comes first."""
    world = GrantWorld(RotatingServer("never"), rotation=RefreshRotation.NEVER)
    world.stored("g", consent_expires_at=world.clock.wall() + 8 * 86_400.0)
    async with world.running() as grants:
        for _ in range(9):
            advance(86_000.0)
            await asyncio.sleep(400.0)

        assert [event.expires_in // 86_400.0 for event in world.events.of(GrantExpiring)] == [8, 6, 0]
        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0
        assert grants.status("g").consent_expires_in == 0
        assert [seen[3] for seen in grants.survey()] == [grants.grant("g").consent_expires_at]


async def test_of_a_grant_that_is_gone_nothing_is_remembered():
    """Given up, or not configured any more: one that comes back is warned of again."""
    world = GrantWorld(RotatingServer("strict"))
    world.stored("g", "h", consent_expires_at=world.clock.wall() + 3_600.0)
    async with world.running() as grants:
        await asyncio.sleep(10.0)
        assert {event.grant for event in world.events.of(GrantExpiring)} == {"g", "h"}
        await grants.revoke("g")
        grants.replace((), {"app": world.registration()})
        grants.replace(world.specs, {"app": world.registration()})
        await asyncio.sleep(10.0)

    assert [event.grant for event in world.events.of(GrantExpiring)].count("h") == 2
    assert [event.grant for event in world.events.of(GrantExpiring)].count("g") == 1
