"""How an authorization request gets to the server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.consent.errors import TooManyPendingError
from broker.consent.shelf import MAX_OPEN_PER_OWNER
from broker.errors import Outcome, RemoteError
from broker.oauth.client import Client, ClientAuthMethod, Profile, RequestObjectUse, ResponseMode
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from tests.unit.consent.world import ISSUER, PEOPLE_CLIENT, ConsentWorld, query_of
from tests.unit.tokens.world import json_response

OIDC = replace(ISSUER, profile=Profile.OIDC)
WITHOUT_PAR = {"pushed_authorization_request_endpoint": None}


async def test_each_request_is_pushed_with_an_assertion_of_its_own():
    """Also when the same caller asks again."""
    async with ConsentWorld().running() as world:
        await world.begin()
        await world.begin()

    assert world.server.calls == ["/par", "/par"]
    assert len({claims["jti"] for claims in world.signer.signed}) == 2
    assert len({form["state"] for form in world.server.forms}) == 2
    assert len({form["code_challenge"] for form in world.server.forms}) == 2
    assert all("request_uri" not in form for form in world.server.forms)


async def test_a_signed_request_is_pushed_where_that_is_wanted():
    """Then the form says no more than who asks."""
    client = replace(PEOPLE_CLIENT, request_object=RequestObjectUse.ALWAYS)
    async with ConsentWorld(client=client).running() as world:
        begun = await world.begin()

    assert "scope" not in world.pushed()
    assert "request" in world.pushed()
    assert set(query_of(begun.authorization_url)) == {"client_id", "request_uri"}


async def test_without_par_the_browser_carries_the_request():
    """It may wait ten minutes there."""
    world = ConsentWorld(issuer=OIDC)
    world.metadata.changes = WITHOUT_PAR
    async with world.running():
        begun = await world.begin()

    query = query_of(begun.authorization_url)
    assert world.server.calls == []
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == ["openid accounts"]
    assert begun.expires_in == 595.0


async def test_a_signed_request_in_the_browser_ends_with_its_signature():
    """Five minutes."""
    client = replace(PEOPLE_CLIENT, request_object=RequestObjectUse.ALWAYS)
    world = ConsentWorld(issuer=OIDC, client=client)
    world.metadata.changes = WITHOUT_PAR
    async with world.running():
        begun = await world.begin()

    assert set(query_of(begun.authorization_url)) == {"client_id", "response_type", "scope", "request"}
    assert begun.expires_in == 295.0
    assert world.signer.signed[-1]["typ"] == "oauth-authz-req+jwt"


@pytest.mark.parametrize(
    ("lifetime", "took", "left"),
    [
        (60, 10.0, 45.0),
        (60, 0.0, 55.0),
        (900, 0.0, 595.0),
        (5, 0.0, 2.5),
        (3, 0.0, 1.5),
        (30, 26.0, 2.0),
        (7.5, 2, 2.75),
    ],
)
async def test_the_time_that_the_request_took_is_not_left_for_the_browser(lifetime: float, took: float, left: float):
    """Nor the last seconds; of a very short life half is (RFC 9126 section 2.2 begins at 5 s)."""
    async with ConsentWorld().running() as world:
        world.server.delay = took
        answer = json_response({"request_uri": "urn:a", "expires_in": lifetime}, status=201)
        world.server.instead["/par"] = lambda: answer
        begun = await world.begin()

    assert begun.expires_in == pytest.approx(left)


@pytest.mark.parametrize(("lifetime", "took"), [(5, 20.0), (5, 5.0), (5, 3.5), (1, 0.0)])
async def test_a_reference_that_ended_on_its_way_is_not_handed_out(lifetime: float, took: float):
    """Whoever opened it would see an error of the server (PAR-04); to begin anew is the caller's to do."""
    async with ConsentWorld().running() as world:
        world.server.delay = took
        answer = json_response({"request_uri": "urn:a", "expires_in": lifetime}, status=201)
        world.server.instead["/par"] = lambda: answer
        with pytest.raises(RemoteError) as caught:
            await world.begin()
        await asyncio.sleep(5_000.0)

    assert (caught.value.code, caught.value.outcome) == (Reason.TIMED_OUT, Outcome.ANSWERED)
    assert world.server.calls == ["/par"]
    assert world.store.values == {}


NO_REFERENCES = [
    (json_response({"request_uri": "urn:a"}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": "", "expires_in": 60}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": "urn:a b", "expires_in": 60}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": ["urn:a"], "expires_in": 60}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": "urn:a", "expires_in": 0}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": "urn:a", "expires_in": -0.5}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": "urn:a", "expires_in": "60"}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": "urn:a", "expires_in": True}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"expires_in": 60}, status=201), Reason.INVALID_RESPONSE),
    (json_response({"request_uri": "urn:a", "expires_in": 60}, status=202), Reason.UNEXPECTED_STATUS),
    (Response(status=302, headers={"location": "https://evil.example"}, body=b""), Reason.REDIRECTED),
    (json_response({"error": "invalid_request_object"}, status=400), Reason.SERVER_REFUSED),
    (json_response({"error": "use_dpop_nonce"}, status=400), Reason.SERVER_REFUSED),
    (json_response({"error": "invalid_client"}, status=401), Reason.SERVER_REFUSED),
    (Response(status=201, headers={"content-type": "text/html"}, body=b"<html>"), Reason.NOT_JSON),
    (Response(status=201, headers={"content-type": "application/json"}, body=b""), Reason.MALFORMED),
    (RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN), Reason.CONNECTION_LOST),
]


@pytest.mark.parametrize("use", [RequestObjectUse.AUTO, RequestObjectUse.ALWAYS])
@pytest.mark.parametrize(("answer", "reason"), NO_REFERENCES)
async def test_an_answer_that_is_no_reference_ends_it(
    answer: Response | RemoteError, reason: Reason, use: RequestObjectUse
):
    """Nothing is stored, no URL is handed out, and nobody is asked twice: the person can try again (PAR-02)."""
    async with ConsentWorld(client=replace(PEOPLE_CLIENT, request_object=use)).running() as world:
        world.server.instead["/par"] = lambda: answer
        with pytest.raises(RemoteError) as caught:
            await world.begin()
        await asyncio.sleep(5_000.0)

    assert caught.value.code == reason
    assert ("request" in world.pushed()) == (use is RequestObjectUse.ALWAYS)
    assert world.server.calls == ["/par"]
    assert world.store.values == {}


@pytest.mark.parametrize(
    ("changes", "issuer"),
    [
        ({"authorization_endpoint": None}, ISSUER),
        ({"pushed_authorization_request_endpoint": None}, ISSUER),
        ({"pushed_authorization_request_endpoint": None, "require_pushed_authorization_requests": True}, OIDC),
        ({"code_challenge_methods_supported": ["plain"]}, ISSUER),
        ({"grant_types_supported": ["client_credentials"]}, ISSUER),
    ],
    ids=str,
)
async def test_a_server_that_lacks_what_is_needed_is_not_asked(changes: dict[str, Any], issuer: Any):
    """The metadata say so (DISC-07)."""
    world = ConsentWorld(issuer=issuer)
    world.metadata.changes = changes
    async with world.running():
        with pytest.raises(RemoteError) as caught:
            await world.begin()

    assert caught.value.code == Reason.METADATA_INSUFFICIENT
    assert world.server.calls == []


SHARED = replace(PEOPLE_CLIENT, shares_redirect_uri=True)
SIGNED_ANSWERS = replace(PEOPLE_CLIENT, response_mode=ResponseMode.JWT)


@pytest.mark.parametrize(
    ("changes", "client"),
    [
        ({"authorization_response_iss_parameter_supported": False}, SHARED),
        ({"jwks_uri": None}, PEOPLE_CLIENT),
        ({"id_token_signing_alg_values_supported": ["RS256"]}, PEOPLE_CLIENT),
        ({"jwks_uri": None}, SIGNED_ANSWERS),
        ({"authorization_signing_alg_values_supported": ["RS256"]}, SIGNED_ANSWERS),
        ({"response_modes_supported": ["query", "fragment"]}, SIGNED_ANSWERS),
    ],
    ids=str,
)
async def test_a_server_whose_answer_could_not_be_checked_is_not_asked(changes: dict[str, Any], client: Client):
    """Which server it is from, whose keys they are, how it is signed (DISC-07)."""
    world = ConsentWorld(issuer=OIDC, client=client)
    world.metadata.changes = changes
    async with world.running():
        with pytest.raises(RemoteError) as caught:
            await world.begin()

    assert caught.value.code == Reason.METADATA_INSUFFICIENT
    assert world.server.calls == []


@pytest.mark.parametrize(
    "client",
    [
        replace(PEOPLE_CLIENT, request_object=RequestObjectUse.NEVER),
        replace(PEOPLE_CLIENT, client_auth_method=ClientAuthMethod.TLS_CLIENT_AUTH, signing_alg=None),
    ],
)
async def test_a_demanded_signature_cannot_be_left_out(client: Client):
    """By the configuration, or for want of a key."""
    world = ConsentWorld(client=client)
    world.metadata.changes = {
        "require_signed_request_object": True,
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "tls_client_auth"],
    }
    async with world.running():
        with pytest.raises(RemoteError) as caught:
            await world.begin()

    assert caught.value.code == Reason.METADATA_INSUFFICIENT
    assert world.server.calls == []


async def test_nothing_is_pushed_for_one_too_many():
    """A workload that has 200 people waiting burdens the server no more."""
    async with ConsentWorld().running() as world:
        for _ in range(MAX_OPEN_PER_OWNER):
            await world.begin()
        with pytest.raises(TooManyPendingError):
            await world.begin()

    assert world.server.calls == ["/par"] * MAX_OPEN_PER_OWNER


async def test_nobody_waits_longer_than_half_a_minute_for_a_page():
    """Whatever the server does."""
    async with ConsentWorld().running() as world:
        world.server.delay = 300.0
        started = world.clock.boot()
        with pytest.raises(RemoteError) as caught:
            await world.begin()
        waited = world.clock.boot() - started
        await asyncio.sleep(0)

    assert caught.value.code == Reason.TIMED_OUT
    assert waited == pytest.approx(30.0)
