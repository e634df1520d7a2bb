"""What becomes of grants whose DPoP key is dropped, or is not there any more."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.events import TokenRefreshFailed
from broker.oauth.messages import Response
from broker.tokens.acquire import Registration
from broker.tokens.serving import TokenUnavailableError
from tests.unit.tokens.dpop import DPOP_CLIENT, FakeProofKey, challenge, key_bound, proofs_of
from tests.unit.tokens.grant_world import GrantWorld, RotatingServer


def proving(world: GrantWorld, jkt: str) -> Registration:
    """Give the client with another DPoP key, to which the server binds its tokens from now on."""
    world.server.members = lambda _: {"token_type": "DPoP", "access_token": key_bound(jkt, world.server.serial)}
    world.client, world.proofs = DPOP_CLIENT, proofs_of(FakeProofKey(jkt=jkt))
    return world.registration()


async def test_what_is_bound_to_a_compromised_dpop_key_is_not_served_again():
    """The next token comes at once, with the new key, for all grants."""
    world = GrantWorld(RotatingServer("strict"))
    proving(world, "old")
    world.stored("a", "b")
    async with world.running() as grants:
        await asyncio.sleep(5.0)
        before = [(await grants.get(name, min_valid=None, wait=5.0)).token.jkt for name in "ab"]
        grants.replace(world.specs, {"app": proving(world, "new")}, banned=frozenset({"old"}))
        with pytest.raises(TokenUnavailableError):
            await grants.get("a", min_valid=None, wait=0.0)
        after = [(await grants.get(name, min_valid=None, wait=5.0)).token.jkt for name in "ab"]

    assert (before, after) == (["old", "old"], ["new", "new"])


@pytest.mark.parametrize("name", ["app", "renamed"])
async def test_a_token_whose_dpop_key_is_gone_is_fetched_anew_with_the_new_means(name: str):
    """Not with the older ones, which may be closed at once; whatever the section of the client is called now."""
    world = GrantWorld(RotatingServer("strict"))
    proving(world, "old")
    world.stored("a")
    async with world.running() as grants:
        await asyncio.sleep(100.0)  # else it was fetched too lately to be fetched anew
        older = grants.settled("app")
        before = list(world.server.asked)
        world.server = replace(world.server, asked=[])
        made = proving(world, "new")
        specs = tuple(replace(spec, client=name) for spec in world.specs)
        under_way = grants.replace(specs, {name: replace(made, client=replace(made.client, name=name))})
        needed = grants.needs(older)
        await asyncio.sleep(1.0)
        token = (await grants.get("a", min_valid=None, wait=5.0)).token

    assert (under_way, needed) == ((), False)
    assert token.jkt == "new"
    assert before == ["rt-a-1"]
    assert len(world.server.asked) == 1


async def test_a_request_whose_dpop_key_is_dropped_under_way_is_made_anew_soon():
    """The server wants a nonce, and there is nothing to prove with any more: nobody has to mend that."""
    world = GrantWorld(RotatingServer("strict"))
    proving(world, "old")
    dropped: set[str] = set()
    assert world.proofs is not None
    world.proofs = replace(world.proofs, dropped=dropped)
    world.stored("a")
    async with world.running() as grants:

        def compromised(_: object) -> Response | None:
            if dropped:
                return None
            dropped.add("old")
            grants.replace(world.specs, {"app": proving(world, "new")}, banned=frozenset(dropped))
            return challenge()

        world.server.before = compromised
        await asyncio.sleep(20.0)

        assert (await grants.get("a", min_valid=None, wait=0.0)).token.jkt == "new"
        assert [event.reason for event in world.events.of(TokenRefreshFailed)] == ["dpop_key_unknown"]
