"""Consents whose codes and tokens are bound to a key by DPoP: by the same one from the first request to the last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.errors import BrokerError, LocalError
from broker.events import AuthorizationFailed
from broker.oauth.client import SenderConstraint
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.tokens.spec import Consent
from tests.unit.consent.world import PEOPLE_CLIENT, SPEC, ConsentWorld, at_hash
from tests.unit.tokens.dpop import FakeProofKey, challenge, key_bound, proofs_of
from tests.unit.tokens.stores import unavailable
from tests.unit.tokens.world import json_response

CLIENT = replace(PEOPLE_CLIENT, sender_constraint=SenderConstraint.DPOP, dpop_alg="ES256")


def world_of(*keys: FakeProofKey, bound_to: str = "key-1", **more: Any) -> ConsentWorld:
    """A server that binds its tokens to the key *bound_to*."""
    world = ConsentWorld(client=CLIENT, proofs=proofs_of(*keys), **more)
    token = key_bound(bound_to)
    world.server.members = {"token_type": "DPoP", "access_token": token}
    world.server.claims = {"at_hash": at_hash(token)}
    return world


async def test_every_request_of_a_consent_is_bound_to_the_same_key():
    """The code from the pushed request on (``dpop_jkt``), the token, and the look at the person with it."""
    key = FakeProofKey()
    world = world_of(key, specs=(replace(SPEC, consent=Consent(userinfo=True)),))
    async with world.running():
        redeemed = await world.come_back(await world.begin())

    assert world.server.calls == ["/par", "/token", "/userinfo"]
    assert world.server.proofs == ["proof-key-1-1", "proof-key-1-2", "proof-key-1-3"]
    assert world.pushed()["dpop_jkt"] == "key-1"
    assert ["ath" in claims for claims in key.proved] == [False, False, True]
    assert (redeemed.token.token_type, redeemed.token.jkt, redeemed.token.binding) == ("DPoP", "key-1", "dpop")
    assert redeemed.grant.jkt == "key-1"


async def test_the_means_of_a_consent_are_needed_while_its_key_is_written_down():
    """That may take a while, and a reload may come; the request is then made with what it began with."""
    needed: list[bool] = []
    world = world_of(FakeProofKey())

    async def slow() -> None:
        needed.append(world.authorizations.needs(world.grants.settled("app")))

    assert world.proofs is not None
    world.proofs = replace(world.proofs, secure=slow)
    async with world.running():
        await world.begin()
        after = world.authorizations.needs(world.grants.settled("app"))

    assert (needed, after) == ([True], False)


async def test_a_code_goes_again_where_the_server_wants_a_nonce():
    """It was not processed (rules.md R1); the second time it is."""
    key = FakeProofKey()
    world = world_of(key)

    def token() -> Response:
        first = world.server.calls.count("/token") == 1
        return challenge("n-1") if first else json_response(world.server.token_response())

    world.server.instead["/token"] = token
    async with world.running():
        await world.come_back(await world.begin())

    assert world.server.calls == ["/par", "/token", "/token"]
    assert [claims.get("nonce") for claims in key.proved] == [None, None, "n-1"]


async def test_a_code_is_redeemed_with_the_key_that_it_was_asked_for_with():
    """Also where the client has another one by then, and across a restart."""
    old, new = FakeProofKey(jkt="old"), FakeProofKey(jkt="new")
    world = world_of(old, bound_to="old")
    async with world.running():
        begun = await world.begin()
    world.proofs = proofs_of(new, old)
    async with world.running():
        redeemed = await world.come_back(begun)

    assert world.server.proofs == ["proof-old-1", "proof-old-2"]
    assert new.proved == []
    assert redeemed.token.jkt == "old"


@pytest.mark.parametrize("proofs", [proofs_of(FakeProofKey(jkt="new")), None])
async def test_a_code_whose_key_is_gone_is_not_sent(proofs: Any):
    """The server would refuse it, or take another binding for the right one; the reason is told."""
    world = world_of(FakeProofKey(jkt="old"), bound_to="old")
    async with world.running():
        begun = await world.begin()
    world.proofs = proofs
    async with world.running():
        with pytest.raises(BrokerError) as failed:
            await world.come_back(begun)

    assert failed.value.code == Reason.DPOP_KEY_UNKNOWN
    assert world.server.after_par == []
    assert [event.reason for event in world.events.of(AuthorizationFailed)] == ["dpop_key_unknown"]


async def test_nobody_is_asked_before_the_key_is_durable():
    """Else a crash would cost the grant."""
    world = ConsentWorld(client=CLIENT, proofs=proofs_of(FakeProofKey(), secure=unavailable()))
    async with world.running():
        with pytest.raises(LocalError) as refused:
            await world.begin()

    assert refused.value.code == "store_unavailable"
    assert world.server.calls == []


async def test_a_token_that_is_bound_to_another_key_costs_the_grant():
    """It would be of no use to us, and perhaps to somebody else."""
    world = world_of(FakeProofKey(), bound_to="theirs")
    async with world.running():
        with pytest.raises(BrokerError) as failed:
            await world.come_back(await world.begin())

    assert failed.value.code == Reason.WRONG_BINDING
    assert world.server.after_par == ["/token", "/revoke"]
    assert world.server.proofs[-1] is None  # a revocation is no request for a token
