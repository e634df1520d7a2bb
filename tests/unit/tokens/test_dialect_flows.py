"""Grants at a server that refreshes with an access token, and that may give somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.errors import BrokerError
from broker.events import GrantEnded, GrantQuarantined, TokenRefreshed, TokenRefreshFailed
from broker.oauth.dialect import IRIDIUM
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import RefreshToken
from broker.tokens.grant import Phase
from broker.tokens.serving import ConsentRequiredError
from broker.tokens.spec import Consent, OnSubjectChange
from tests.unit.tokens.bearer_world import BearerWorld
from tests.unit.tokens.grant_world import SPEC, lost, not_sent
from tests.unit.tokens.world import json_response

Trouble = Callable[[], Response | BrokerError]
SERVES = replace(SPEC, consent=Consent(on_subject_change=OnSubjectChange.SERVE))


# --- a refresh takes the access token in hand ---


async def test_a_grant_lives_on_with_each_access_token_for_the_next():
    """IRI-13: an hour of them, and never one that has ended."""
    world = BearerWorld()
    world.consented("g")
    async with world.running() as grants:
        await asyncio.sleep(3600.0)

        assert (await grants.get("g", min_valid=None, wait=0.0)).expires_in > 0
    refreshed = [event for event in world.events.of(TokenRefreshed) if event.grant == "g"]
    assert len(refreshed) > 10
    assert world.server.bearers[0] == "at-0"
    assert len(set(world.server.bearers)) == len(refreshed)
    assert world.server.looked_up == [*world.server.bearers[1:], world.server.looked_up[-1]]
    assert world.events.of(TokenRefreshFailed) == []


async def test_a_refresh_has_a_bearer_token_and_names_the_client():
    """At its own endpoint, as the draft has it."""
    world = BearerWorld()
    world.consented("g")
    async with world.running():
        await asyncio.sleep(299.0)

    request = next(each for each in world.server.requests if each.method == "POST")
    assert request.url == "https://as.example/oauth/token/refresh"
    assert request.form == (("grant_type", "refresh_token"), ("client_id", "app-1"))


@pytest.mark.parametrize("trouble", [not_sent, lost])
async def test_a_grant_that_cannot_be_refreshed_in_time_needs_consent(trouble: Trouble):
    """It is served to its end, and tried until the server says that the access token is no good; then no more."""
    world = BearerWorld()
    world.consented("g")
    world.server.before = lambda _: trouble()
    async with world.running() as grants:
        await asyncio.sleep(295.0)
        assert (await grants.get("g", min_valid=None, wait=0.0)).token.access_token.reveal() == "at-0"
        await asyncio.sleep(600.0)
        world.server.ended.add("at-0")
        await asyncio.sleep(100.0)
        tries = len(world.server.bearers)
        with pytest.raises(ConsentRequiredError) as caught:
            await grants.get("g", min_valid=None, wait=5.0)
        await asyncio.sleep(10_000.0)

    assert caught.value.reason == "access_token_ended"
    assert tries > 3
    assert len(world.server.bearers) == tries
    assert [event.reason for event in world.events.of(GrantEnded)] == ["access_token_ended"]
    left = world.store.grant("g")
    assert left is not None
    assert (left.phase, left.reason) == (Phase.ENDED, "access_token_ended")
    assert left.refresh_token == RefreshToken("rt-g-1")


async def test_an_outage_that_passes_in_time_costs_nothing():
    """One answer before the end is enough."""
    world = BearerWorld()
    world.consented("g")
    world.server.before = lambda _: not_sent() if world.clock.boot() - began < 280.0 else None
    async with world.running() as grants:
        began = world.clock.boot()
        await asyncio.sleep(400.0)

        assert grants.status("g").state == "fresh"


async def test_after_an_outage_of_the_broker_the_server_decides():
    """The token ended while nobody was there to refresh it: it is shown twice, and then a person is needed."""
    world = BearerWorld()
    world.consented("g")
    world.server.ended.add("at-0")
    await asyncio.sleep(301.0)
    async with world.running() as grants:
        await asyncio.sleep(100.0)
        with pytest.raises(ConsentRequiredError):
            await grants.get("g", min_valid=None, wait=0.0)

    assert world.server.bearers == ["at-0", "at-0"]


@pytest.mark.parametrize("offset", [-7_200.0, 86_400.0])
async def test_a_clock_that_is_set_while_it_runs_ends_no_grant(offset: float):
    """Neither backward nor forward: the token in hand is as good as before."""
    world = BearerWorld()
    world.consented("g")
    async with world.running() as grants:
        await asyncio.sleep(10.0)
        world.clock.wall_offset = offset
        await asyncio.sleep(1_000.0)

        assert grants.status("g").state in {"fresh", "stale"}
        assert await grants.revoke("g") == "revoked"
    assert world.events.of(GrantEnded) == []


async def test_one_wrong_word_about_the_person_is_none():
    """R2.6: it is asked for twice."""
    world = BearerWorld()
    world.consented("g")
    answers = [json_response({"data": {"id": "mallory"}})]
    world.server.look_up = lambda: answers.pop() if answers else None
    async with world.running() as grants:
        await asyncio.sleep(299.0)

        assert grants.status("g").state == "fresh"
        assert len(world.server.looked_up) >= 2
    assert world.events.of(GrantQuarantined) == []


@pytest.mark.parametrize("offset", [-7_200.0, 86_400.0])
async def test_a_clock_that_is_wrong_at_a_restart_ends_no_grant(offset: float):
    """R2.11 serves nothing then, but who knows when the token ends? The server does: it is shown to it."""
    world = BearerWorld()
    world.consented("g")
    world.clock.wall_offset = offset
    async with world.running() as grants:
        await asyncio.sleep(30.0)

        assert world.server.bearers[0] == "at-0"
        assert (await grants.get("g", min_valid=None, wait=0.0)).token.access_token.reveal() != "at-0"
        assert world.events.of(GrantEnded) == []


async def test_a_refused_bearer_token_ends_no_grant_before_its_time():
    """IRI-14: the server's word is about the access token; that it is asked again costs nothing."""
    world = BearerWorld()
    world.consented("g")
    world.server.ended.add("at-0")
    async with world.running() as grants:
        await asyncio.sleep(290.0)
        assert grants.grant("g").phase is not Phase.ENDED
        await asyncio.sleep(20.0)

        assert grants.grant("g").reason == "access_token_ended"
    assert {event.server_error for event in world.events.of(TokenRefreshFailed)} == {"invalid_token"}


async def test_what_the_server_says_of_a_refresh_token_is_understood():
    """IRI-10: two such answers end a grant, and the token in the text is nowhere."""
    world = BearerWorld()
    world.consented("g")
    text = "invalid refresh token: rt-g-1"
    world.server.before = lambda _: json_response({"error": text, "error_description": ""}, status=400)
    async with world.running():
        await asyncio.sleep(290.0)

    assert [event.reason for event in world.events.of(GrantEnded)] == ["invalid_grant"]
    assert "rt-g-1" not in repr(world.events)


# --- whose the new token is ---


async def test_a_token_of_somebody_else_is_not_served():
    """IRI-13e: the person's own is served to its end, and then a person has to consent again."""
    world = BearerWorld()
    world.consented("g")
    world.server.subject = "the-application"
    async with world.running() as grants:
        await asyncio.sleep(295.0)
        assert (await grants.get("g", min_valid=None, wait=0.0)).token.access_token.reveal() == "at-0"
        assert grants.status("g").reason == "subject_changed"
        await asyncio.sleep(10_000.0)
        with pytest.raises(ConsentRequiredError) as caught:
            await grants.get("g", min_valid=None, wait=0.0)

    assert caught.value.reason == "subject_changed"
    assert len(world.server.bearers) == 1
    assert [event.reason for event in world.events.of(GrantQuarantined)] == ["subject_changed"]
    assert [event.reason for event in world.events.of(GrantEnded)] == ["subject_changed"]
    assert "the-application" not in repr(world.events)


@pytest.mark.parametrize("crash", [False, True])
async def test_after_a_restart_nothing_is_asked_either(crash: bool):
    """What was seen is in the store, with the refresh token that came with it (R2.2)."""
    world = BearerWorld()
    world.consented("g")
    world.server.subject = "the-application"
    async with world.crashing() if crash else world.running():
        await asyncio.sleep(250.0)
    left = world.store.grant("g")
    assert left is not None
    assert (left.phase, left.reason) == (Phase.QUARANTINED, "subject_changed")
    assert left.refresh_token == RefreshToken("rt-g-2")

    async with world.running() as grants:
        first = await grants.get("g", min_valid=None, wait=0.0)
        await grants.refresh("g", rejected="at-0", wait=5.0, begun=lambda: None)
        assert first.token.access_token.reveal() == "at-0"
        assert len(world.server.bearers) == 1
        await asyncio.sleep(300.0)
        with pytest.raises(ConsentRequiredError):
            await grants.get("g", min_valid=None, wait=0.0)


@pytest.mark.parametrize("mode", ["grace", "never"])
@pytest.mark.parametrize(
    "trouble",
    [
        lost,
        not_sent,
        lambda: json_response({"code": "400 BAD_REQUEST", "message": None}, status=400),
        lambda: json_response({"error": "invalid_grant"}, status=400),
        lambda: json_response({"data": {}}),
        lambda: Response(status=200, headers={}, body=b""),
    ],
)
async def test_a_look_up_that_fails_costs_the_access_token_and_nothing_else(trouble: Trouble, mode: str):
    """R2.3: the refresh is done, its refresh token is stored, and the next attempt comes on backoff."""
    world = BearerWorld()
    world.server.mode = mode
    world.consented("g")
    world.server.look_up = trouble
    async with world.running() as grants:
        await asyncio.sleep(250.0)
        stored = world.store.grant("g")
        assert stored is not None
        assert stored.refresh_token is not None
        assert stored.refresh_token.reveal() == world.server.alive("g")
        assert stored.access is not None
        assert (stored.phase, stored.access.access_token.reveal()) == (Phase.QUARANTINED, "at-0")
        assert (await grants.get("g", min_valid=None, wait=0.0)).token.access_token.reveal() == "at-0"
        world.server.look_up = lambda: None
        await asyncio.sleep(49.0)

        assert grants.grant("g").phase is Phase.SETTLED
        assert (await grants.get("g", min_valid=None, wait=0.0)).token.access_token.reveal() != "at-0"
    assert set(world.server.bearers) == {"at-0"}
    assert world.events.of(GrantEnded) == []


async def test_where_it_does_not_matter_nobody_is_looked_up():
    """The configuration says so; the token is served, whoever's it is."""
    world = BearerWorld(specs=(SERVES,))
    world.consented("g")
    world.server.subject = "the-application"
    async with world.running() as grants:
        await asyncio.sleep(1000.0)
        serving = await grants.get("g", min_valid=None, wait=0.0)

    assert world.server.subjects[serving.token.access_token.reveal()] == "the-application"
    assert world.server.looked_up == []


async def test_a_grant_of_nobody_in_particular_is_not_looked_up():
    """There is nobody to compare with."""
    world = BearerWorld()
    world.consented("g", subject=None, subject_verified=False)
    world.server.subject = "the-application"
    async with world.running() as grants:
        await asyncio.sleep(1000.0)
        assert grants.status("g").expires_in

    assert world.server.looked_up == []


async def test_a_failed_look_up_is_told_as_what_failed_it():
    """Not as a change of the person."""
    world = BearerWorld()
    world.consented("g")
    world.server.look_up = lambda: json_response({"data": {"id": ""}})
    async with world.running():
        await asyncio.sleep(290.0)

    assert {event.reason for event in world.events.of(TokenRefreshFailed)} == {Reason.USERINFO_INVALID}


async def test_a_look_up_without_metadata_costs_the_access_token_alone():
    """They may be of a server that has some; the refresh was done all the same."""
    world = BearerWorld(dialect=replace(IRIDIUM, endpoints=IRIDIUM.endpoints[:-1]))
    world.server.mode = "never"
    world.consented("g")
    async with world.running() as grants:
        await asyncio.sleep(250.0)

        assert grants.grant("g").reason == Reason.METADATA_INSUFFICIENT
        assert (await grants.get("g", min_valid=None, wait=0.0)).token.access_token.reveal() == "at-0"
    assert {event.outcome for event in world.events.of(TokenRefreshFailed)} == {"answered"}
