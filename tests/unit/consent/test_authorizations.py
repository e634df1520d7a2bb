"""The life of authorizations, from a caller's request to a grant in use, over a server in memory."""

from __future__ import annotations

from broker.consent.pending import Pending
from broker.events import AuthorizationGranted, AuthorizationStarted
from tests.unit.consent.world import ConsentWorld, query_of


async def test_a_consent_becomes_a_grant_that_is_served():
    """The whole way: pushed, opened, come back, redeemed, in use."""
    async with ConsentWorld().running() as world:
        begun = await world.begin()
        redeemed = await world.come_back(begun)
        serving = await world.grants.get(redeemed.grant.id, min_valid=None, wait=0.0)

    assert query_of(begun.authorization_url) == {"client_id": ["app-1"], "request_uri": ["urn:example:1"]}
    assert world.server.calls == ["/par", "/token"]
    assert redeemed.grant.subject == "alice"
    assert redeemed.grant.subject_verified
    assert serving.token == redeemed.token
    assert world.grants.one("person") == redeemed.grant.id
    assert [event.grant for event in world.events.of(AuthorizationStarted)] == [None]
    assert [event.grant for event in world.events.of(AuthorizationGranted)] == [redeemed.grant.id]
    assert begun.binding.reveal() not in world.store.values[f"pending/{begun.id}"].decode()
    assert Pending.from_bytes(world.store.values[f"pending/{begun.id}"]).phase.grant == redeemed.grant.id  # type: ignore[union-attr]
