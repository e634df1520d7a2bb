"""Whose a new access token is: asked in its turn, under the breaker, with that very token."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broker.errors import BrokerError, Outcome, RemoteError
from broker.events import ClientSuspended
from broker.oauth.checks import CheckFailedError
from broker.oauth.dialect import STANDARD
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken
from broker.oauth.token_response import TokenResponse, read_token_response
from broker.tokens.passage import Passage
from broker.tokens.userinfo import ask_userinfo, subject_by_userinfo
from tests.unit.tokens.bearer_world import PUBLIC, BearerWorld
from tests.unit.tokens.dpop import FakeProofKey, proofs_of
from tests.unit.tokens.world import json_response


def answer_with(access_token: str = "at-0", jkt: str | None = None) -> TokenResponse:
    """Give what a server issued."""
    response = json_response({"access_token": access_token, "token_type": "Bearer", "expires_in": 300})
    answer = read_token_response(
        response, client=PUBLIC, asked_scope=(), certificate_thumbprint=None, jkt=None, wall_now=0.0
    )
    return replace(answer, jkt=jkt)


async def subject(
    world: BearerWorld, answer: TokenResponse | None = None, passage: Passage | None = None
) -> str | None:
    return await subject_by_userinfo(
        world.registration(),
        answer or answer_with(),
        passage or Passage(clock=world.clock, emit=world.events),
        wall_now=world.clock.wall(),
    )


async def test_the_server_says_whose_the_very_token_is():
    """IRI-15: as bearer, in the media type of the dialect, at the place that it names."""
    world = BearerWorld()

    assert await subject(world) == "alice"

    (request,) = world.server.requests
    assert (request.method, request.url, request.form) == ("GET", "https://as.example/identities", None)
    assert request.headers == {"accept": "application/vnd.iridium.id.identity-response.1+json"}
    assert request.credential == AccessToken("at-0")
    assert "at-0" not in repr(request)


async def test_where_the_dialect_looks_nobody_up_nothing_is_asked():
    """An ID token tells it there, or nothing does; not even metadata are wanted."""
    world = BearerWorld(dialect=STANDARD)

    assert await subject(world) is None
    assert world.server.requests == []


async def test_a_bound_token_is_shown_with_a_proof_of_its_key():
    """RFC 9449 section 7.1: of the key that it was bound to, which need not be the newest."""
    world, new, old = BearerWorld(), FakeProofKey("new"), FakeProofKey("old")
    registration = world.registration()
    exchange = replace(registration.exchange, proofs=proofs_of(new, old))
    passage = Passage(clock=world.clock, emit=world.events)

    await ask_userinfo(replace(registration, exchange=exchange), answer_with(jkt="old"), passage)

    (request,) = world.server.requests
    assert request.proof is not None
    assert [claims["htm"] for claims in old.proved] == ["GET"]
    assert new.proved == []


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        (json_response({"code": "401", "message": "NOT AUTHORIZED"}, status=401), Reason.SERVER_REFUSED),
        (Response(status=200, headers={}, body=b""), Reason.MALFORMED),
        (RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN), Reason.CONNECTION_LOST),
        (json_response({"data": {"id": None}}), Reason.USERINFO_INVALID),
    ],
)
async def test_what_fails_is_raised_as_it_is(instead: Response | BrokerError, reason: Reason):
    """Whoever asked decides what it costs."""
    world = BearerWorld()
    world.server.look_up = lambda: instead

    with pytest.raises(RemoteError) as raised:
        await subject(world)

    assert raised.value.code == reason
    assert isinstance(raised.value, CheckFailedError) is (reason is Reason.USERINFO_INVALID)


async def test_look_ups_take_their_turns_at_the_issuer():
    """They are requests like others: its limits hold for all of them."""
    world = BearerWorld()
    registration = world.registration()
    registration = replace(registration, issuer=replace(registration.issuer, max_concurrent_requests=1))
    passage = Passage(clock=world.clock, emit=world.events)

    async def held() -> None:
        async with passage.turn(object(), registration, rank=0.0, still_wanted=lambda: None):
            assert len(world.server.requests) == 0
            await asyncio.sleep(5.0)

    began = world.clock.boot()
    first = asyncio.create_task(held())
    await asyncio.sleep(0.1)
    await ask_userinfo(registration, answer_with(), passage)
    await first

    assert world.clock.boot() >= began + 5.0
    assert len(world.server.requests) == 1


async def test_the_breaker_of_the_client_holds_look_ups_back():
    """A certificate under suspicion is shown no more for them."""
    world = BearerWorld()
    passage = Passage(clock=world.clock, emit=world.events)
    world.server.look_up = lambda: RemoteError(Reason.CERTIFICATE_SUSPECTED, "alert", outcome=Outcome.NOT_SENT)
    for _ in range(3):
        with pytest.raises(RemoteError):
            await subject(world, passage=passage)

    with pytest.raises(RemoteError) as raised:
        await subject(world, passage=passage)

    assert raised.value.code == Reason.CLIENT_SUSPENDED
    assert [event.client for event in world.events.of(ClientSuspended)] == ["app"]
